"""`perdure`: the command line. It speaks HTTP to the API and imports none of the other packages."""
