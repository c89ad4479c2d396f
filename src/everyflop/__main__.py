"""What `everyflop` and `python -m everyflop` run."""

from everyflop.backend.heap import begin_again_with_better_heap


def run() -> None:
    """Run one command, with the heap that is best for it."""
    begin_again_with_better_heap()
    from everyflop.cli.main import main  # not before: a process that begins again has imported in vain

    main()


if __name__ == "__main__":
    run()
