"""What a Python program sees of the simulated /dev/i2c-1: smbus2's calls, plain files, the kernel's structures and errnos."""

import sys
from pathlib import Path

import pytest
from kernel_rig import Kernel, kernel

from sim.faults import Fault, Faults


@pytest.fixture(scope="module")
def memory_kernel():
    with kernel() as made:
        yield made


@pytest.fixture
def k(memory_kernel: Kernel) -> Kernel:
    memory_kernel.memory.power_cycle()
    return memory_kernel


def test_every_call_of_smbus2_does_on_the_chip_what_it_says(k: Kernel) -> None:
    k.run("""
        from smbus2 import I2cFunc, SMBus, i2c_msg
        with SMBus(1) as bus:
            assert bus.funcs & I2cFunc.I2C and bus.funcs & I2cFunc.SMBUS_QUICK and bus.funcs & I2cFunc.SMBUS_READ_I2C_BLOCK
            bus.write_quick(0x50)
            bus.write_byte(0x50, 0x21)
            assert (bus.read_byte(0x50), bus.read_byte(0x50)) == (0x21, 0x22)
            bus.write_byte_data(0x50, 0x10, 0xAB)
            assert bus.read_byte_data(0x50, 0x10) == 0xAB
            bus.write_word_data(0x50, 0x11, 0x1234)
            assert bus.read_word_data(0x50, 0x11) == 0x1234 and bus.read_byte_data(0x50, 0x11) == 0x34
            bus.write_i2c_block_data(0x50, 0x20, [9, 8, 7])
            assert bus.read_i2c_block_data(0x50, 0x20, 4) == [9, 8, 7, 0x23]
            assert bus.read_i2c_block_data(0x50, 0x40, 32) == list(range(0x40, 0x60))
            bus.write_block_data(0x50, 0x60, [1, 2, 3])
            assert bus.read_byte_data(0x50, 0x60) == 3 and bus.read_block_data(0x50, 0x60) == [1, 2, 3]
            assert bus.process_call(0x50, 0x70, 0xBEEF) == 0x7372
            bus.write_byte_data(0x50, 0x82, 2)
            assert bus.block_process_call(0x50, 0x80, [5]) == [0x83, 0x84]
            write, read = i2c_msg.write(0x50, [0xA0]), i2c_msg.read(0x50, 60)
            bus.i2c_rdwr(write, read)
            assert list(read) == list(range(0xA0, 0xA0 + 60))
            bus.i2c_rdwr(i2c_msg.write(0x50, [0x90, 1, 2]), i2c_msg.write(0x50, [0x91]), read)
            assert list(read)[:2] == [2, 0x92]
        with SMBus("/dev/i2c-1") as bus:
            assert bus.read_byte_data(0x50, 0x12, force=True) == 0x12
    """)
    assert k.memory.content[0x11:0x13] == b"\x34\x12" and k.memory.content[0x60:0x64] == b"\x03\x01\x02\x03"


def test_nobody_at_the_address_is_the_errno_of_a_raspberry_pi(k: Kernel) -> None:
    k.run("""
        import os, smbus2
        bus = smbus2.SMBus(1)
        def number(call, *arguments):
            try:
                call(*arguments)
            except OSError as error:
                assert error.strerror == os.strerror(error.errno)
                return error.errno
            return 0
        assert number(bus.read_byte_data, 0x20, 0) == 121
        assert number(bus.write_quick, 0x20) == 121
        assert number(bus.i2c_rdwr, smbus2.i2c_msg.read(0x20, 3)) == 121
        assert number(smbus2.SMBus, 2) == 2
        assert number(open, "/dev/i2c-0", "rb") == 2
        assert bus.read_byte_data(0x50, 5) == 5
        try:
            bus.enable_pec()
        except OSError as error:
            assert "SMBUS_PEC" in str(error)
        else:
            raise AssertionError("PEC was accepted")
    """)


def test_a_line_held_low_is_a_time_out() -> None:
    with kernel(faults=Faults([Fault(kind="stuck_scl", chip="memory")])) as k:
        k.run("""
            import errno, smbus2
            bus = smbus2.SMBus(1)
            try:
                bus.read_byte_data(0x50, 0)
            except OSError as error:
                assert error.errno == errno.ETIMEDOUT == 110
            else:
                raise AssertionError("the bus answered")
        """)


def test_requests_that_make_no_sense_get_the_errno_of_i2c_dev(k: Kernel) -> None:
    k.run("""
        import ctypes, errno, fcntl, os, struct
        fd = os.open("/dev/i2c-1", os.O_RDWR)
        def number(request, argument=0):
            try:
                fcntl.ioctl(fd, request, argument)
            except OSError as error:
                return error.errno
            return 0
        SLAVE, SLAVE_FORCE, TENBIT, FUNCS, RDWR, PEC, SMBUS = 0x703, 0x706, 0x704, 0x705, 0x707, 0x708, 0x720
        assert [number(SLAVE, 0x50), number(SLAVE_FORCE, 0x50)] == [0, 0]
        assert [number(SLAVE, 0x80), number(SLAVE, -1)] == [errno.EINVAL] * 2
        assert [number(0x701, 3), number(0x702, 100), number(0x701, 1 << 40)] == [0, 0, errno.EINVAL]  # retries, time-out
        assert [number(PEC, 0), number(PEC, 1), number(TENBIT, 1)] == [0, errno.EINVAL, errno.EINVAL]
        assert [number(0x5401), number(0x7FF)] == [errno.ENOTTY] * 2
        assert number(RDWR, struct.pack("@PI", 0, 1)) == errno.EINVAL
        data = ctypes.create_string_buffer(34)
        message = ctypes.create_string_buffer(struct.pack("@HHHP", 0x50, 1, 2, ctypes.addressof(data)))
        ten_bit = ctypes.create_string_buffer(struct.pack("@HHHP", 0x50, 0x11, 2, ctypes.addressof(data)))
        assert number(RDWR, struct.pack("@PI", ctypes.addressof(message), 0)) == errno.EINVAL
        assert number(RDWR, struct.pack("@PI", ctypes.addressof(message), 43)) == errno.EINVAL
        assert number(RDWR, struct.pack("@PI", ctypes.addressof(ten_bit), 1)) == errno.EOPNOTSUPP
        assert fcntl.ioctl(fd, RDWR, bytearray(struct.pack("@PI", ctypes.addressof(message), 1))) == 1
        def smbus(reading, command, size, first, pointer=None):
            data[0] = first
            return number(SMBUS, struct.pack("@BBIP", reading, command, size, ctypes.addressof(data) if pointer is None else pointer))
        assert [smbus(1, 0, 8, 33), smbus(1, 0, 8, 0), smbus(0, 0, 8, 33), smbus(0, 0, 5, 33)] == [errno.EINVAL] * 4
        assert [smbus(2, 0, 2, 0), smbus(1, 0, 9, 0), smbus(1, 0, 2, 0, 0)] == [errno.EINVAL] * 3
        assert smbus(1, 0, 5, 0) == errno.EPROTO  # register 0 holds 0: no block has that length
        assert smbus(1, 0x30, 6, 7) == 0 and data.raw[:3] == bytes((32, 0x30, 0x31))
        assert struct.unpack("@L", fcntl.ioctl(fd, FUNCS, bytes(8)))[0] & 1
        os.close(fd)
        assert number(SLAVE, 0x50) == errno.EBADF
    """)


def test_a_transfer_has_up_to_42_messages_of_up_to_8192_bytes(k: Kernel) -> None:
    k.run("""
        import errno, fcntl, os, smbus2
        from smbus2 import i2c_msg
        bus = smbus2.SMBus(1)
        reads = [i2c_msg.read(0x50, 2) for _ in range(41)]
        bus.i2c_rdwr(i2c_msg.write(0x50, [0x10]), *reads)
        assert [list(read) for read in reads] == [[0x10 + 2 * n, 0x11 + 2 * n] for n in range(41)]
        long = i2c_msg.read(0x50, 8192)
        bus.i2c_rdwr(i2c_msg.write(0x50, [0]), long)
        assert bytes(long) == bytes(range(256)) * 32
        bus.i2c_rdwr(i2c_msg.write(0x50, bytes(8192)))
        for messages in ([i2c_msg.read(0x50, 1)] * 43, [i2c_msg.read(0x50, 8193)], [i2c_msg.write(0x50, bytes(8193))]):
            try:
                bus.i2c_rdwr(*messages)
            except OSError as error:
                assert error.errno == errno.EINVAL
            else:
                raise AssertionError("too much was accepted")
        fcntl.ioctl(bus.fd, 0x703, 0x50)
        assert os.write(bus.fd, bytes(9000)) == 8192 and len(os.read(bus.fd, 9000)) == 8192  # cut, as i2c-dev cuts
    """)


def test_a_device_is_its_path_however_that_is_written(k: Kernel) -> None:
    k.run("""
        import os, pathlib, stat
        os.chdir("/dev")
        for path in ("/dev/i2c-1", "i2c-1", "/dev/../dev//i2c-1", b"/dev/i2c-1", pathlib.Path("/dev/i2c-1")):
            os.close(os.open(path, os.O_RDWR))
        for path in ("/dev/i2c-01", "/dev/i2c-\u0661", "/dev/i2c-", "/dev/i2c-1x", "/dev/i2c-1/"):
            assert not os.path.exists(path), path
        assert os.path.lexists("/dev/i2c-1") and not os.path.islink("/dev/i2c-1") and stat.S_ISCHR(os.lstat("/dev/i2c-1").st_mode)
        assert not os.path.lexists("/dev/i2c-2")
    """)


def test_a_file_with_the_inode_number_of_a_bus_is_not_the_bus(k: Kernel, tmp_path: Path) -> None:
    k.run(
        """
        import os, sys
        bus = os.open("/dev/i2c-1", os.O_RDWR)
        plain = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)  # on another file system, where inodes are counted anew
        real, number = os.fstat, os.fstat(bus).st_ino
        def fstat(fd):
            found = real(fd)
            return os.stat_result((found[0], number, *found[2:])) if fd == plain else found
        os.fstat = fstat
        assert os.write(plain, b"xyz") == 3 and os.pread(plain, 9, 0) == b"xyz"
        """,
        str(tmp_path / "plain"),
    )


def test_plain_read_and_write_go_to_the_address_set_before(k: Kernel) -> None:
    k.run("""
        import fcntl, io, os, pathlib
        I2C_SLAVE = 0x0703
        fd = os.open("/dev/i2c-1", os.O_RDWR)
        fcntl.ioctl(fd, I2C_SLAVE, 0x50)
        assert os.write(fd, bytes((0x40, 7, 8))) == 3 and os.write(fd, b"\\x40") == 1 and os.read(fd, 3) == bytes((7, 8, 0x42))
        with os.fdopen(os.dup(fd), "rb", buffering=0) as same:  # the address belongs to the open file
            assert same.read(2) == bytes((0x43, 0x44))
        os.close(fd)
        for opener in (open, io.open, io.FileIO, lambda path, mode, buffering: pathlib.Path(path).open(mode, buffering)):
            file = opener("/dev/i2c-1", "r+") if opener is io.FileIO else opener("/dev/i2c-1", "r+b", buffering=0)
            assert isinstance(file, io.FileIO) and file.name == "/dev/i2c-1" or opener not in (open, io.open)
            fcntl.ioctl(file, I2C_SLAVE, 0x50)
            file.write(b"\\x10")
            buffer = bytearray(2)
            assert file.readinto(buffer) == 2 and buffer == b"\\x10\\x11" and file.read(1) == b"\\x12"
            file.close()
        with open("/dev/i2c-1", "wb") as file:
            fcntl.ioctl(file, I2C_SLAVE, 0x50)
            file.write(b"\\x99\\x01")
        with open("/dev/i2c-1", "rb", buffering=0) as file:
            fcntl.ioctl(file, I2C_SLAVE, 0x20)
            try:
                file.read(1)
            except OSError as error:
                assert error.errno == 121
            try:
                file.write(b"x")
            except io.UnsupportedOperation:
                pass
            else:
                raise AssertionError("written to a file opened for reading")
        try:
            open("/dev/i2c-1", "r+b")
        except io.UnsupportedOperation:
            pass
        else:
            raise AssertionError("a device cannot be buffered both ways: it cannot seek")
        try:
            open("/dev/i2c-9", "r+b", buffering=0)
        except FileNotFoundError as error:
            assert error.errno == 2 and error.filename == "/dev/i2c-9"
    """)
    assert k.memory.content[0x99] == 1


def test_other_files_are_left_alone(k: Kernel, tmp_path: Path) -> None:
    k.run(
        """
        import fcntl, io, os, pathlib, shutil, stat, struct, subprocess, sys, tempfile, termios
        here = pathlib.Path(sys.argv[1])
        assert os.path.exists("/dev/i2c-1") and stat.S_ISCHR(os.stat("/dev/i2c-1").st_mode) and os.access("/dev/i2c-1", os.R_OK | os.W_OK)
        assert not os.path.exists("/dev/i2c-2") and not os.access("/dev/i2c-2", os.R_OK)
        bus = os.open("/dev/i2c-1", os.O_RDWR)
        assert shutil.rmtree.avoids_symlink_attacks and os.stat in os.supports_follow_symlinks and os.open in os.supports_dir_fd
        (here / "a").mkdir()
        (here / "a" / "b").write_text("text")
        assert open(here / "a" / "b").read() == "text" and io.FileIO(here / "a" / "b").read() == b"text"
        class Own(io.FileIO):
            pass
        assert isinstance(Own(here / "a" / "b"), io.FileIO) and not isinstance(open(here / "a" / "b", "rb", 0), Own)
        assert isinstance(open(here / "a" / "b", "rb", 0), io.FileIO) and issubclass(Own, io.FileIO)
        class Holder:  # a built-in function does not become a method
            opened = os.open
        os.close(Holder().opened(here / "a" / "b", os.O_RDONLY))
        shutil.rmtree(here / "a")
        with tempfile.TemporaryFile() as file:
            file.write(b"abc")
        reading, writing = os.pipe()
        os.write(writing, b"abcd")
        assert struct.unpack("i", fcntl.ioctl(reading, termios.FIONREAD, bytes(4)))[0] == 4 and os.read(reading, 9) == b"abcd"
        os.close(bus)
        fd = os.open(here / "plain", os.O_RDWR | os.O_CREAT)  # takes the number the bus had
        assert fd == bus and os.write(fd, b"xyz") == 3 and (here / "plain").read_bytes() == b"xyz"
        assert subprocess.run(["cat", here / "plain"], capture_output=True).stdout == b"xyz"
        """,
        str(tmp_path),
    )


def test_two_processes_share_the_bus_and_a_fork_gets_its_own_way_to_it(k: Kernel) -> None:
    before = k.server.transactions
    k.run("""
        import multiprocessing, smbus2
        def count(bus, register):
            for value in range(200):
                bus.write_byte_data(0x50, register, value)
                assert bus.read_byte_data(0x50, register) == value
        bus = smbus2.SMBus(1)
        bus.read_byte_data(0x50, 0)
        context = multiprocessing.get_context("fork")
        others = [context.Process(target=count, args=(bus, register)) for register in (0xA0, 0xA1)]
        for other in others:
            other.start()
        count(bus, 0xA2)
        for other in others:
            other.join()
        assert [other.exitcode for other in others] == [0, 0]
    """)
    assert k.server.transactions - before == 3 * 400 + 1
    assert list(k.memory.content[0xA0:0xA3]) == [199, 199, 199]


def test_threads_share_one_open_file(k: Kernel) -> None:
    k.run("""
        import threading, smbus2
        bus = smbus2.SMBus(1)
        wrong = []
        def look(register):
            for _ in range(200):
                data = smbus2.i2c_msg.read(0x50, 3)
                bus.i2c_rdwr(smbus2.i2c_msg.write(0x50, [register]), data)
                if list(data) != [register, register + 1, register + 2]:
                    wrong.append(list(data))
        threads = [threading.Thread(target=look, args=(register,)) for register in (0x10, 0x20, 0x30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, wrong[:3]
    """)


def test_files_that_nobody_closes_are_not_kept_for_ever(k: Kernel) -> None:
    k.run("""
        import os, sys
        fake = sys.modules["_cruisers_fake_kernel"]
        for _ in range(1000):
            open("/dev/i2c-1", "rb", buffering=0).close()  # closed by C: nobody is told
        assert len(fake._files) <= 256
    """)


def test_the_environments_own_sitecustomize_still_runs(k: Kernel, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['CHAINED'] = __name__ + ' ' + __file__\n")
    path = k.environment["PYTHONPATH"] + f":{tmp_path}"
    told = k.run(
        "import os, sitecustomize, smbus2; print(os.environ['CHAINED'], sitecustomize.__file__, smbus2.SMBus(1).read_byte_data(0x50, 3))",
        extra={"PYTHONPATH": path},
    )
    own = str(tmp_path / "sitecustomize.py")
    assert told.split() == ["sitecustomize", own, own, "3"]


def test_a_program_outside_a_truck_finds_nothing_changed(k: Kernel) -> None:
    k.run("import os, fcntl; assert type(os.open) is type(fcntl.ioctl) is type(len)", extra={"CRUISERS_SIM_SOCKET": ""})


def test_when_the_truck_is_gone_the_device_is_gone() -> None:
    with kernel() as k:
        told = k.run(
            """
            import smbus2, sys, os
            os.environ["CRUISERS_SIM_SOCKET"] = "nobody"
            sys.modules["_cruisers_fake_kernel"]._name = "nobody"
            try:
                smbus2.SMBus(1)
            except OSError as error:
                print(error.errno)
            """
        )
    assert told == "19\n"


def test_python_of_the_system_is_served_too(k: Kernel) -> None:
    python = Path("/usr/bin/python3")
    if not python.exists() or python.resolve() == Path(sys.executable).resolve():
        pytest.skip("there is no other Python here")
    program = """
        import fcntl
        file = open("/dev/i2c-1", "r+b", buffering=0)
        fcntl.ioctl(file, 0x703, 0x50)
        file.write(bytes([9]))
        print(file.read(1)[0])
    """
    assert k.run(program, python=str(python)) == "9\n"
