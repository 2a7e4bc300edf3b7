"""Options to share work between processes or machines."""

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.parsing import UsageError
from vrm_pyro.processes import Share, meet, num_processes, process_index


def add_share_options(parser: ArgumentParser) -> None:
    """Add ``--num_shards``, ``--shard`` and ``--merge``."""
    parser.add_argument(
        "--num_shards",
        type=int,
        default=1,
        help="Number of processes that share the work, each with its --shard. Not needed under "
        "torchrun.",
    )
    parser.add_argument(
        "--shard",
        type=int | None,
        default=None,
        help="Index of this process, from 0 to --num_shards - 1. All use the same --out.",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="Merge the finished shards of all processes.",
    )


def share_of(options: Namespace) -> Share:
    """Return this process's share, from the options or else from the launcher.

    Raises:
        UsageError: If the options contradict each other.
    """
    count, index = options.num_shards, options.shard
    if count < 1:
        raise UsageError(f"--num_shards is {count}, but must be at least 1.")
    if index is not None and not 0 <= index < count:
        raise UsageError(
            f"--shard is {index}, but must be from 0 to {count - 1}: --num_shards is {count}."
        )
    if options.merge and index is not None:
        raise UsageError("--merge merges the shards of all processes; leave --shard out.")
    if count > 1 and index is None and not options.merge:
        raise UsageError(
            f"--num_shards is {count}: give the index of this process with --shard, from "
            "0, or pass --merge when all are done."
        )
    if num_processes() == 1:
        return Share(count, index or 0, False)
    if count > 1 or options.merge:
        raise UsageError(
            f"{num_processes()} processes were started together and share the work by "
            "themselves. Leave --num_shards, --shard and --merge out."
        )
    meet()
    return Share(num_processes(), process_index(), True)
