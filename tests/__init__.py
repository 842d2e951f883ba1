"""The tests of aioshm: one module for each module of the package, and what crosses them."""
