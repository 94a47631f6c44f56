"""One module a concept; none imports another. :func:`aiexplained.registry.concepts` lists them."""
