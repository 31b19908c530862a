"""What is measured of a network besides attacks, as rows; each file has a twin in `metrics/` that summarises them."""
