"""`pgolf pack`: from a run to the records folder that somebody else can run."""
