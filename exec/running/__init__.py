"""Running a job, going on with a run that stopped, and going on from another."""
