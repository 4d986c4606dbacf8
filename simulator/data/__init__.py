"""Data for learning to simulate: states, and what they change to after a fixed interval.

generation   initial states without overlaps, and transitions from them
store        the Zarr store they stream to, which outlives a kill
"""
