"""Which stages run at the same time: slots, memory, priorities."""

import threading

from sextant.commands.slots import Need, Slots

GIB = 2**30


def need(slots: int = 1, memory: int = 0, priority: float = 0) -> Need:
    return Need(slots, memory, priority)


def started(slots: Slots, *needs: Need) -> list[Need]:
    """Register the stages and let them enter; return those that may run now.

    The threads of the others wait until the slots are closed.
    """
    for one in needs:
        slots.register(one)
    entered: list[Need] = []

    def enter(one: Need) -> None:
        if slots.enter(one):
            entered.append(one)

    threads = [threading.Thread(target=enter, args=(one,)) for one in needs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(0.05)
    return entered


def wait_for(stage: Need, entered: list[Need]) -> None:
    """Give the thread of a stage a second to let it enter."""
    for _ in range(100):
        if stage in entered:
            break
        threading.Event().wait(0.01)


def test_as_many_run_as_there_are_slots_and_the_highest_priority_first() -> None:
    slots = Slots(2, lambda: GIB)
    low, high, middle = need(priority=1), need(priority=3), need(priority=2)
    assert started(slots, low, high, middle) == [high, middle]
    slots.close()


def test_a_stage_that_ends_makes_room_for_the_next_one() -> None:
    slots = Slots(1, lambda: GIB)
    first, second = need(priority=2), need(priority=1)
    entered = started(slots, first, second)
    assert entered == [first]
    slots.leave(first)
    wait_for(second, entered)
    assert entered == [first, second]


def test_smaller_stages_overtake_one_that_waits_for_all_slots_and_it_runs_at_last() -> None:
    slots = Slots(2, lambda: GIB)
    running = need(priority=3)
    assert started(slots, running) == [running]
    whole, small = need(slots=2, priority=2), need(priority=1)
    entered = started(slots, whole, small)
    assert entered == [small]
    slots.leave(small)
    slots.leave(running)
    wait_for(whole, entered)
    assert entered == [small, whole]
    slots.leave(whole)


def test_a_stage_of_higher_priority_that_is_still_checked_is_waited_for() -> None:
    slots = Slots(2, lambda: GIB)
    checked = need(priority=2)
    slots.register(checked)
    low = need(priority=1)
    entered = started(slots, low)
    assert entered == []
    slots.leave(checked)  # it did not change
    wait_for(low, entered)
    assert entered == [low]


def test_memory_counts_as_the_stages_will_take_it_and_one_always_runs() -> None:
    slots = Slots(4, lambda: 3 * GIB)
    large, fits, too_much = need(1, 2 * GIB, 3), need(1, GIB, 2), need(1, 1, 1)
    assert started(slots, large, fits, too_much) == [large, fits]
    slots.close()
    alone = Slots(4, lambda: GIB)
    huge, other = need(1, 9 * GIB, 2), need(1, 1, 1)
    assert started(alone, huge, other) == [huge]
    alone.close()


def test_memory_that_another_program_takes_counts_too() -> None:
    free = [3 * GIB]
    slots = Slots(2, lambda: free[0])
    first = need(1, GIB, 2)
    assert started(slots, first) == [first]
    free[0] = GIB
    assert started(slots, need(1, 2 * GIB, 1)) == []
    slots.close()


def test_nothing_starts_once_the_slots_are_closed() -> None:
    slots = Slots(2, lambda: GIB)
    slots.close()
    assert started(slots, need(), need()) == []
