"""Measurements that say whether we are as fast as we promise; `make bench` runs them."""
