"""Slots: trial, confirm, revert, rollback; what a torn or foreign record does; drives that cannot be written."""

import os
from array import array
from binascii import crc32
from struct import pack

import ram_fs
from case import attn8, path, raises, read

try:
    from micropython import heap_lock, heap_unlock
except ImportError:
    heap_lock = None
try:
    from attn8.device import deploy, signature, slots
except ImportError:
    import attn8.deploy as deploy
    import attn8.signature as signature
    import attn8.slots as slots

EMPTY, WRITTEN, TRIAL, GOOD, BAD = range(5)
OLD, NEW, OTHER = "int8.a8", "stream_a.a8", "stream_d.a8"
_folder = None
_n_names = 0


def fresh():
    """Returns a slot name that nothing was written for."""
    global _folder, _n_names
    if _folder is None:
        _folder = path("slots_")
        try:
            with open(_folder, "wb"):
                pass
        except OSError:  # the test files lie in ROM
            _folder = ram_fs.mounted("/slots") + "/"
    _n_names += 1
    slots.counted.clear()
    return _folder + str(_n_names)


def reboot():
    slots.counted.clear()


def write(file, data, mode="wb"):
    with open(file, mode) as f:
        f.write(data)


def size(file):
    return os.stat(file)[6]


def sent(name, file, tail=b""):
    """Does what a computer does before accept; returns the path."""
    data = read(file) + tail
    at = slots.begin(name)
    write(at, data)
    assert slots.verify(at, len(data), crc32(data)) == "crc32"
    return at


def update(name, file, confirm=False):
    return slots.accept(name, sent(name, file), confirm)


def with_old():
    """Returns a slot name with OLD, good, in slot 0."""
    name = fresh()
    assert update(name, OLD, True) == (0, 1)
    return name


def in_trial():
    """Returns a slot name with OLD, good, in slot 0 and NEW in trial in slot 1."""
    name = with_old()
    assert update(name, NEW) == (1, 2)
    return name


def states(name):
    """Returns (state, boots) of both slots."""
    return [row[3:5] for row in slots.status(name)]


def is_loaded(name, file):
    return attn8.load(name).id == attn8.load(path(file)).id


def test_a_slot_name_loads_what_was_accepted():
    name = with_old()
    m = attn8.load(name)
    assert m.selftest() and is_loaded(name, OLD)
    row = (0, 1, len(read(OLD)), GOOD, 0, m.name, m.version, m.id)
    assert slots.status(name) == [row, (1, 0, 0, EMPTY, 0, "", "", "")]


def test_a_record_is_sixteen_bytes_bound_to_its_model():
    data = read(OLD)
    name = with_old()
    head = pack("<IIBBH", 1, len(data), GOOD, 0, 0x384C)
    with open(name + ".0.a8", "rb") as f:
        assert f.read() == data + head + pack("<I", crc32(head, crc32(data[:24])))
    assert slots.record(data[:24], 1, GOOD) == head + pack("<I", crc32(head, crc32(data[:24])))


def test_paths_still_load_and_a_name_without_files_is_no_file():
    name = fresh()
    raises(OSError, attn8.load, name)
    write(name, read(OLD))
    assert is_loaded(name, OLD)
    update(name, NEW)
    assert is_loaded(name, NEW)  # the slots come first


def test_an_accepted_model_is_in_trial_until_it_is_confirmed():
    name = in_trial()
    assert states(name) == [(GOOD, 0), (TRIAL, 0)]
    assert is_loaded(name, NEW)
    assert states(name) == [(GOOD, 0), (TRIAL, 1)]
    assert attn8.confirm()
    assert states(name) == [(GOOD, 0), (GOOD, 1)]
    n = size(name + ".1.a8")
    reboot()
    assert is_loaded(name, NEW)
    assert not attn8.confirm()
    assert size(name + ".1.a8") == n


def test_confirm_without_a_slot_does_nothing():
    reboot()
    attn8.load(path(OLD))
    assert not attn8.confirm()


def test_three_boots_without_confirm_bring_the_model_before_back():
    name = in_trial()
    for boots in (1, 2, 3):
        reboot()
        assert is_loaded(name, NEW)
        assert states(name) == [(GOOD, 0), (TRIAL, boots)]
    reboot()
    assert is_loaded(name, OLD)
    assert states(name) == [(GOOD, 0), (BAD, 3)]
    reboot()
    assert is_loaded(name, OLD)
    assert update(name, OTHER) == (1, 2)
    assert is_loaded(name, OTHER)


def test_a_program_counts_one_boot_however_often_it_loads():
    name = in_trial()
    for boots in (1, 2, 3):
        reboot()
        for _ in range(3):
            assert is_loaded(name, NEW)
        assert states(name)[1] == (TRIAL, boots)
    assert attn8.confirm()


def test_a_trial_with_nothing_behind_it_goes_on():
    name = fresh()
    update(name, NEW)
    for boots in (1, 2, 3, 3, 3):
        reboot()
        assert is_loaded(name, NEW)
        assert states(name)[0] == (TRIAL, boots)
    assert attn8.confirm()
    assert states(name)[0] == (GOOD, 3)


def test_windows_confirm_a_trial_with_nothing_behind_it_after_any_number_of_boots():
    name = fresh()
    update(name, NEW)
    for _ in range(5):
        reboot()
        m = attn8.load(name)
    m.confirm_after = 1
    x = read("stream_a.x")
    m.run(x[: 2 * m.n_steps * m.n_channels])
    assert states(name)[0] == (GOOD, 3)


def test_an_update_of_a_model_that_was_never_confirmed_goes_back_to_it():
    name = fresh()
    update(name, OLD)
    for _ in range(4):
        reboot()
        assert is_loaded(name, OLD)
    update(name, NEW)
    for boots in (1, 2, 3):
        reboot()
        assert is_loaded(name, NEW)
        assert states(name) == [(TRIAL, 3), (TRIAL, boots)]
    reboot()
    assert is_loaded(name, OLD)
    assert states(name) == [(TRIAL, 3), (BAD, 3)]


def test_a_model_that_comes_while_another_runs_is_not_confirmed_in_its_place():
    name = in_trial()
    attn8.load(name)
    update(name, OTHER)
    assert not attn8.confirm()
    assert states(name)[1] == (TRIAL, 0)


def methods(m, x):
    """Yields a function for each way to run a window."""
    yield lambda: m.run(x)
    yield lambda: m.run(x, bytearray(m.n_outputs))
    yield lambda: m.predict(x)
    yield lambda: stepped(m, x)
    s = m.stream(hop=1)
    s.push(x)
    yield lambda: s.push(x[: 2 * m.n_channels])


def stepped(m, x):
    m.start(x)
    while m.step():
        pass


def test_enough_windows_confirm_a_trial():
    x = read("stream_a.x")
    plain = attn8.load(path(NEW))
    x = x[: 2 * plain.n_steps * plain.n_channels]
    expected = list(plain.run(x))
    for i in range(5):
        name = in_trial()
        m = attn8.load(name)
        run = list(methods(m, x))[i]
        m.confirm_after = 3
        run()
        run()
        assert m.confirm_after == 1 and states(name)[1] == (TRIAL, 1)
        run()
        assert states(name)[1] == (GOOD, 1)
        run()
        assert list(m.run(x)) == expected
        assert m.predict() == plain.decide(plain.output)


def test_a_hundred_windows_confirm_unless_the_program_says_otherwise():
    name = in_trial()
    m = attn8.load(name)
    x = bytes(2 * m.n_steps * m.n_channels)
    assert m.confirm_after == 100
    m.confirm_after = None
    m.run(x)
    assert m.confirm_after is None
    m.confirm_after = 1
    refused = Refused(OSError(28))
    m.run(x)
    refused.end()
    assert refused.n == 1 and m.confirm_after == 100
    assert states(name)[1] == (TRIAL, 1)
    for _ in range(100):
        m.run(x)
    assert states(name)[1] == (GOOD, 1)


def test_windows_that_fail_do_not_count():
    name = in_trial()
    m = attn8.load(name)
    raises(attn8.ModelError, m.run, b"")
    raises(attn8.ModelError, m.predict, b"")
    assert m.confirm_after == 100


if heap_lock:

    def locked(run):
        heap_lock()
        try:
            run()
        finally:
            heap_unlock()

    def test_a_trial_allocates_nothing():
        m = attn8.load(in_trial())
        x, out = bytes(2 * m.n_steps * m.n_channels), array("b", bytes(m.n_outputs))
        s = m.stream(hop=1)
        sample = bytes(2 * m.n_channels)
        s.push(x)
        for run in (lambda: m.run(x), lambda: m.run(x, out), lambda: stepped(m, x), lambda: s.push(sample)):
            run()
            locked(run)
        assert m.confirm_after == 91

    def test_windows_confirm_later_where_the_heap_is_locked():
        name = in_trial()
        m = attn8.load(name)
        x = bytes(2 * m.n_steps * m.n_channels)
        m.confirm_after = 1
        locked(lambda: m.run(x))
        assert states(name)[1] == (TRIAL, 1)
        assert m.confirm_after == 100


def test_a_model_with_wrong_golden_vectors_is_refused_and_the_old_one_stays():
    name = with_old()
    at = sent(name, "wrong_golden.a8")
    e = raises(attn8.ModelError, slots.accept, name, at)
    assert e.code == 36
    assert states(name) == [(GOOD, 0), (EMPTY, 0)]
    assert is_loaded(name, OLD)
    assert update(name, NEW) == (1, 2)


def test_a_file_that_is_no_model_is_refused_with_what_is_wrong():
    name = with_old()
    data = read(NEW)
    for damaged, code in (
        (b"", 1),
        (b"hello", 1),
        (b"X" + data[1:], 2),
        (data[:-1], 4),
        (data[:99] + b"\x55" + data[100:], 5),
    ):
        at = slots.begin(name)
        write(at, damaged)
        assert raises(attn8.ModelError, slots.accept, name, at).code == code
        assert is_loaded(name, OLD)
    e = raises(ValueError, slots.accept, name, name)
    assert str(e) == f"accept: got {name}, expected {name}.0.a8 or {name}.1.a8"


def copied(name, file, sequence, state):
    """Puts a model into slot 1 as a drive does: without the board, its record last."""
    data = read(file)
    write(name + ".1.a8", data + slots.record(data[:24], sequence, state))


def test_a_model_from_a_drive_is_tested_by_the_board():
    name = with_old()
    copied(name, NEW, 2, WRITTEN)
    assert states(name)[1] == (WRITTEN, 0)
    assert is_loaded(name, NEW)
    assert states(name)[1] == (TRIAL, 1)
    for state in (WRITTEN, TRIAL):
        name = with_old()
        copied(name, "wrong_golden.a8", 2, state)
        assert is_loaded(name, OLD)
        assert states(name) == [(GOOD, 0), (BAD, 1)]


def test_a_damaged_model_is_passed_over():
    for state in (WRITTEN, TRIAL, GOOD):
        name = with_old()
        copied(name, NEW, 2, state)
        write(name + ".1.a8", b"\x55", "r+b")  # the first byte of the magic
        assert is_loaded(name, OLD)
        copied(name, NEW, 2, state)
        with open(name + ".1.a8", "r+b") as f:
            f.seek(99)
            f.write(b"\x55")
        assert is_loaded(name, OLD)
        assert states(name)[1][0] == (GOOD if state == GOOD else BAD)


def test_without_a_model_that_can_be_taken_the_fault_of_the_newest_is_told():
    name = fresh()
    data = read(NEW)
    write(name + ".0.a8", b"")
    e = raises(attn8.ModelError, attn8.load, name)
    assert e.code == 39
    expected = f"{name}: no slot holds a model that can be taken (SLOT): got slot 0 empty, slot 1 empty"
    assert str(e) == expected + ", expected a good slot; deploy a model"
    write(name + ".0.a8", data[:99] + b"\x55" + data[100:] + slots.record(data[:24], 1, GOOD))
    assert raises(attn8.ModelError, attn8.load, name).code == 5
    copied(name, "wrong_golden.a8", 2, TRIAL)
    assert raises(attn8.ModelError, attn8.load, name).code == 36


def test_a_torn_record_does_not_count_and_the_next_one_does():
    data = read(NEW)
    for n in range(1, 16):
        name = in_trial()
        write(name + ".1.a8", slots.record(data[:24], 2, BAD)[:n], "ab")
        assert states(name)[1] == (TRIAL, 0)
        assert is_loaded(name, NEW) and attn8.confirm()
        assert states(name)[1] == (GOOD, 1)
        assert size(name + ".1.a8") == len(data) + 16 * 4


def test_no_record_with_a_flipped_bit_counts():
    data = read(NEW)
    record = bytearray(slots.record(data[:24], 2, BAD))
    name = in_trial()
    for bit in range(128):
        record[bit >> 3] ^= 1 << (bit & 7)
        write(name + ".1.a8", record, "ab")
        record[bit >> 3] ^= 1 << (bit & 7)
    assert states(name)[1] == (TRIAL, 0)
    write(name + ".1.a8", record, "ab")
    assert states(name)[1] == (BAD, 0)


def test_records_out_of_range_do_not_count():
    data = read(NEW)
    name = in_trial()
    for sequence, state in ((2, 0), (2, 5), (1 << 30, GOOD)):
        write(name + ".1.a8", slots.record(data[:24], sequence, state), "ab")
        assert states(name)[1] == (TRIAL, 0)


def test_the_last_sequence_of_all_is_told():
    name = with_old()
    copied(name, NEW, 0x3FFFFFFF, GOOD)
    assert is_loaded(name, NEW)
    at = sent(name, OTHER)
    e = raises(attn8.ModelError, slots.accept, name, at)
    assert e.code == 39 and "got sequence 1073741823, expected a smaller one: remove both slot files" in str(e)
    assert is_loaded(name, NEW)


def test_a_record_that_another_model_left_behind_does_not_count():
    old, new = read("int16.a8"), read("strict.a8")
    assert len(old) == len(new)
    name = with_old()
    write(name + ".1.a8", new + slots.record(old[:24], 2, GOOD))
    assert states(name)[1] == (EMPTY, 0)
    assert is_loaded(name, OLD)


def test_a_boot_that_somebody_ended_is_taken_back():
    name = in_trial()
    for _ in range(5):
        reboot()
        attn8.load(name)
        assert states(name) == [(GOOD, 0), (TRIAL, 1)]
        slots.stopped(name)
    assert states(name) == [(GOOD, 0), (TRIAL, 0)]
    slots.stopped(name)
    assert states(name) == [(GOOD, 0), (TRIAL, 0)]


def test_rollback_goes_back_once():
    name = in_trial()
    attn8.load(name)
    attn8.confirm()
    assert slots.rollback(name) == 0
    assert states(name) == [(GOOD, 0), (BAD, 1)]
    assert is_loaded(name, OLD)
    e = raises(attn8.ModelError, slots.rollback, name)
    assert e.code == 39 and "got slot 1 bad, slot 0 good, expected a second one to go back to" in str(e)
    assert slots.accept(name, name + ".1.a8", True) == (1, 3)
    assert is_loaded(name, NEW)


def test_rollback_marks_the_newer_one_even_when_its_boots_are_used_up():
    name = in_trial()
    for _ in range(3):
        reboot()
        attn8.load(name)
    reboot()
    assert slots.rollback(name) == 0
    assert states(name) == [(GOOD, 0), (BAD, 3)]


def test_rollback_does_not_leave_a_model_that_runs_for_one_that_does_not():
    name = in_trial()
    with open(name + ".0.a8", "r+b") as f:
        f.seek(99)
        f.write(b"\x55")
    assert raises(attn8.ModelError, slots.rollback, name).code == 5
    assert is_loaded(name, NEW)


def test_begin_spares_the_good_model_and_not_the_one_in_trial():
    name = in_trial()
    assert is_loaded(name, NEW)
    assert slots.begin(name) == name + ".1.a8"
    assert states(name) == [(GOOD, 0), (EMPTY, 0)]
    assert is_loaded(name, OLD)


def test_begin_spares_the_one_in_trial_where_the_good_one_is_damaged():
    name = in_trial()
    with open(name + ".0.a8", "r+b") as f:
        f.seek(99)
        f.write(b"\x55")
    assert slots.begin(name) == name + ".0.a8"
    assert is_loaded(name, NEW)


def test_a_hundred_updates_take_the_slots_in_turn():
    name = fresh()
    for i in range(100):
        assert update(name, (OLD, NEW, OTHER)[i % 3], True) == (i % 2, i + 1)
    assert is_loaded(name, OLD)
    assert size(name + ".1.a8") == len(read(OLD)) + 16


def test_verify_finds_what_differs():
    name = fresh()
    data = read(OLD)
    at = slots.begin(name)
    write(at, data)
    crc = crc32(data)
    e = raises(attn8.ModelError, slots.verify, at, len(data) + 1, crc)
    assert e.code == 4 and f"got {len(data)} bytes, expected {len(data) + 1}" in str(e)
    for bit in (0, 13, 16, 31):
        assert raises(attn8.ModelError, slots.verify, at, len(data), crc ^ 1 << bit).code == 5
    if signature.sha256():
        digest = signature.sha256()
        digest.update(data)
        digest = digest.digest()
        assert slots.verify(at, len(data), crc, digest) == "sha256"
        assert raises(attn8.ModelError, slots.verify, at, len(data), crc, bytes(32)).code == 5
    raises(OSError, slots.verify, name, 1, 1)


def hexadecimal(data):
    return "".join([f"{b:02x}" for b in data])


def test_tags_are_those_of_rfc_4231():
    if not signature.sha256():
        assert signature.tag(b"key", b"") is None
        return
    cases = (
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    )
    for key, data, expected in cases:
        assert hexadecimal(signature.tag(key, data)) == expected


def test_with_a_key_on_the_board_only_signed_models_run():
    name = with_old()
    key = b"sixteen bytes or more"
    write(name + ".key", key)
    if not signature.sha256():
        e = raises(attn8.ModelError, attn8.load, name)
        assert e.code == 40 and "a firmware without SHA-256" in str(e)
        return
    assert raises(attn8.ModelError, attn8.load, name).code == 40
    tag = signature.tag(key, read(OLD))
    for tail in (b"", tag[:-1], bytes(32), tag[:-1] + bytes((tag[-1] ^ 1,))):
        assert raises(attn8.ModelError, slots.accept, name, sent(name, OLD, tail)).code == 40
    assert slots.accept(name, sent(name, OLD, tag), True) == (1, 2)
    assert is_loaded(name, OLD)
    tag = signature.tag(key, read(NEW))
    assert slots.accept(name, sent(name, NEW, tag)) == (0, 3)
    assert is_loaded(name, NEW) and attn8.confirm()
    assert slots.rollback(name) == 1
    write(name + ".key", key + b"!")
    assert raises(attn8.ModelError, attn8.load, name).code == 40


def test_a_key_file_that_is_no_key_takes_no_model():
    name = with_old()
    for key in (b"", bytes(1025)):
        write(name + ".key", key)
        e = raises(attn8.ModelError, attn8.load, name)
        assert e.code == 40 and f"got {len(key)} bytes, expected a key of 1 to 1024" in str(e)


class Broken:
    """In place of the module os: files cannot be looked at."""

    def stat(self, path):
        raise OSError(5)


def test_a_file_system_that_fails_does_not_turn_the_signature_off():
    name = with_old()
    slots.os = Broken()
    try:
        e = raises(OSError, slots.key_of, name)
    finally:
        slots.os = os
    assert e.args[0] == 5
    assert slots.key_of(name) is None


def test_a_damaged_name_keeps_no_other_model_from_being_deployed():
    name, data = fresh(), read(OLD)
    write(name + ".0.a8", data[:36] + b"\xff" + data[37:] + slots.record(data[:24], 1, GOOD))
    assert slots.status(name)[0][:6] == (0, 1, len(data), GOOD, 0, "")
    assert update(name, NEW) == (0, 1)
    assert is_loaded(name, NEW)


class Refused:
    """Makes appending fail with an error until ``end``."""

    def __init__(self, error):
        self.error, self.n = error, 0
        slots.open = self

    def __call__(self, file, mode="r"):
        if mode == "ab":
            self.n += 1
            raise self.error
        return open(file, mode)

    def end(self):
        del slots.open


def test_on_a_drive_that_belongs_to_a_computer_a_trial_is_tested_at_each_boot():
    name = in_trial()
    with_wrong = with_old()
    copied(with_wrong, "wrong_golden.a8", 2, WRITTEN)
    refused = Refused(OSError(30))
    for _ in range(5):
        reboot()
        assert is_loaded(name, NEW)
        assert is_loaded(with_wrong, OLD)
        assert not attn8.confirm()
    refused.end()
    assert refused.n > 10
    assert states(name) == [(GOOD, 0), (TRIAL, 0)]
    assert states(with_wrong) == [(GOOD, 0), (WRITTEN, 0)]


def test_a_trial_that_cannot_be_counted_does_not_replace_a_good_model():
    name = in_trial()
    refused = Refused(OSError(28))
    assert is_loaded(name, OLD)
    refused.end()
    assert refused.n == 1
    assert is_loaded(name, NEW)
    name = fresh()
    update(name, NEW)
    refused = Refused(OSError(28))
    assert is_loaded(name, NEW)
    refused.end()


def test_confirm_tells_that_it_cannot_write():
    name = in_trial()
    attn8.load(name)
    refused = Refused(OSError(28))
    e = raises(OSError, attn8.confirm)
    refused.end()
    assert e.args[0] == 28
    assert attn8.confirm()


class Forgotten:
    """Takes what is written and stores nothing."""

    def __call__(self, file, mode="r"):
        return open(file, "rb") if mode != "ab" else ram_fs.File(bytearray(), 0)


def test_a_record_that_was_not_stored_is_an_error():
    name = fresh()
    at = sent(name, NEW)
    if hasattr(os, "fsync"):
        return  # needs a real file
    slots.open = Forgotten()
    e = raises(OSError, slots.accept, name, at)
    del slots.open
    assert e.args[0] == 5 and "the record that was written is not there" in str(e)


def test_checksums_are_the_same_without_binascii():
    name = in_trial()
    found, slots.crc32 = slots.crc32, None
    try:
        assert states(name) == [(GOOD, 0), (TRIAL, 0)]
        assert is_loaded(name, NEW) and attn8.confirm()
        data = read(OTHER)
        at = slots.begin(name)
        write(at, data)
        slots.verify(at, len(data), crc32(data))
        slots.accept(name, at)
    finally:
        slots.crc32 = found
    assert states(name) == [(TRIAL, 0), (GOOD, 1)]


def test_other_names_of_the_module_are_no_attributes():
    assert slots.begin is deploy.begin
    e = raises(AttributeError, getattr, slots, "start")
    assert str(e) == "module 'attn8.slots' has no attribute 'start'"
