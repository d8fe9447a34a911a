"""`python -m admin`, which is `perdure admin`."""

from admin.main import main

if __name__ == "__main__":
    main()
