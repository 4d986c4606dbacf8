"""Speed and statistical validation, beside peers; nothing here is imported by the packages."""
