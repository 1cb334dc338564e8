"""Ways of explaining a classifier of faces, compared on the same classifier, generator and rows."""
