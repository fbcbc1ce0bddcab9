"""`pgolf dashboard [FOLDER ...]`: all runs on one page in the browser, refreshing while they go.

It is served to this machine alone unless --host says otherwise: whoever reaches it can read the
results, logs and configurations of the runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines

HELP = "all runs live in the browser"
PORT = 8341


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("outputs")], metavar="FOLDER",
        help="folders of runs (outputs)",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT, help=f"0: any free one ({PORT})")


def run(options: argparse.Namespace) -> Answer:
    """Serve until Ctrl-C."""
    from pgolf.report.folders import find_runs
    from pgolf.report.serve import make_server

    runs, _ = find_runs(options.folders)
    server = make_server(options.folders, options.host, options.port)
    host, port = server.server_address[:2]
    address = f"http://{host!s}:{port}/"
    print(f"{len(runs)} runs at {address}  (Ctrl-C ends)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return {"served": address}


show = show_lines
