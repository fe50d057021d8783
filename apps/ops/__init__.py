"""Whether this process is well, for supervisors and load balancers."""
