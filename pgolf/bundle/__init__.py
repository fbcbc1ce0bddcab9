"""One file from many: modules of a package inlined, unused parts dropped, names kept apart."""
