"""`python -m cryptfs` is the `cryptfs` command."""

from cryptfs.cli.main import run

if __name__ == "__main__":
    run()
