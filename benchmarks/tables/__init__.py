"""Tables: outliers, densities, synthetic rows, missing cells, against the libraries that people use for them."""
