"""Is what is said true? Estimates and intervals against answers known by construction."""
