"""Labels that somebody sends: read as far as they go, with every problem named.

The readers beside this package stop at the first mistake, which is right for a training. People
who bring a data set want to know all of what will come and what will not.
"""
