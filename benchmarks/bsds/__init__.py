"""Density estimation of real rows: densities, flows and energies with a bracket on their log Z."""
