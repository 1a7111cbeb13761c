"""Whether the process that wrote something still runs."""


def is_alive(pid: int, seen: float) -> bool:
    """Whether process `pid` runs, and began before `seen`, in seconds since 1970.

    One that began later has the number of a process that has ended. A zombie has ended, although
    nobody has asked for its exit code yet.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        begun: float = process.create_time()
        has_ended = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return not has_ended and begun <= seen + 1  # a process's start is rounded
