"""Processes that cannot open what they were not given and cannot reach the network.

Layers, each in a file of its own: Landlock (files), a network namespace, seccomp (sockets), and an
audit hook of Python where the system offers none of them. `enter` chooses and says which it was.
"""
