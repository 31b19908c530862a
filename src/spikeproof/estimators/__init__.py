"""Where an attack gets its gradient from, one file an estimator."""
