"""The inside of the sandbox: a fresh interpreter locks itself in, then runs a program that nobody vouches for.

Standard library only: its text is handed to `python -c`, and what to run comes as JSON on the standard input (sandbox.py sends
it). Limits of the system hold first, then Landlock (no file but Python's own) and seccomp (no socket, no further process, no
signal). The verdict goes out by its own pipe, beside a number that only this file knows while the program runs.
"""

import ctypes
import io
import json
import os
import platform
import resource
import struct
import sys

_DENIED = {  # name: (x86_64, aarch64); -1: the call does not exist there
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "sendto": (44, 206), "sendmsg": (46, 211),
    "sendmmsg": (307, 269), "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "setrlimit": (160, 164), "prlimit64": (302, 261),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "open_by_handle_at": (304, 265), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142), "swapon": (167, 224), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "sethostname": (170, 161), "setpriority": (141, 140), "sched_setaffinity": (203, 122),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "truncate": (76, 45),
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, -1), "fchown": (93, 55),
    "lchown": (94, -1), "fchownat": (260, 54), "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463), "removexattrat": (466, 466),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)
_ARCHES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE_THREAD, _X32 = 0x00010000, 0x40000000
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_MORE, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

_LANDLOCK_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
"""All rights on files that a version of Landlock knows; a later one knows those of 5."""
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _PARENT_DEATH_SIGNAL = 38, 22, 1


class Unjailed(Exception):
    """A lock that was asked for does not hold here."""


def main() -> None:
    """Read what to run, lock the door, run it, and say how it ended."""
    verdict, spec = int(sys.argv[1]), json.load(sys.stdin)
    secret, write, leave = spec["secret"].encode(), os.write, os._exit
    try:
        lock(spec)
    except (Unjailed, OSError, AttributeError) as error:
        write(verdict, secret + f" unjailed {error}".encode())
        leave(3)
    tests, program = spec["tests"], spec["program"]
    sys.stdin = io.StringIO(spec["input"])
    del spec
    sys.argv = ["answer.py"]
    passed, kind, note = 0, "passed", ""
    try:
        space = {"__name__": "__main__", "__builtins__": __builtins__}
        exec(compile(program, "<answer>", "exec"), space)  # noqa: S102  # what the jail is for
        for test in tests:
            try:
                exec(compile(test, "<test>", "exec"), space)  # noqa: S102
                passed += 1
            except MemoryError:
                raise
            except Exception as error:
                kind, note = "failed", note or said(error)
    except MemoryError:
        kind, note = "memory", ""
    except SystemExit as error:
        kind, note = ("passed", "") if not error.code and not tests else ("exited", said(error))
    except BaseException as error:
        kind, note = "failed", said(error)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        kind, note = ("failed", said(error)) if kind == "passed" else (kind, note)
    write(verdict, b"%s %s %d %s" % (secret, kind.encode(), passed, note.encode("utf-8", "replace")))
    leave(0)


def said(error: BaseException) -> str:
    """An exception in a few words, whatever its own methods do."""
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except BaseException:
        return "an exception that cannot be shown"


def lock(spec: dict) -> None:
    """All locks that this system has. Raises Unjailed where one of `spec["need"]` is missing."""
    limit(spec)
    if sys.platform != "linux":
        if spec["need"]:
            raise Unjailed(f"{sys.platform} has none of: {', '.join(spec['need'])}")
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_PARENT_DEATH_SIGNAL, 9, 0, 0, 0):
        raise Unjailed("the system refuses to give up privileges")
    for name, close in (("landlock", landlock), ("seccomp", seccomp)):
        try:
            close(libc, spec)
        except Unjailed:
            if name in spec["need"]:
                raise


def limit(spec: dict) -> None:
    """What one process may use."""
    files = spec["file_bytes"]
    for which, most in (("CPU", spec["cpu_s"]), ("AS", spec["memory_bytes"]), ("FSIZE", files), ("NOFILE", 64), ("CORE", 0),
                        ("MEMLOCK", 0), ("MSGQUEUE", 0)):  # fmt: skip
        number = getattr(resource, f"RLIMIT_{which}", None)
        if number is None:
            continue
        try:
            resource.setrlimit(number, (most, most))
        except (ValueError, OSError) as error:  # a lower limit holds already, or (macOS) the system knows none for memory
            if which in ("CPU", "FSIZE") and resource.getrlimit(number)[1] > most:
                raise Unjailed(f"the limit {which} cannot be set: {error}") from None


def landlock(libc: ctypes.CDLL, spec: dict) -> None:
    """No file but what `spec` names. Source: the kernel's userspace-api/landlock."""
    version = libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        raise Unjailed("this kernel has no Landlock")
    rights = _LANDLOCK_RIGHTS[min(version, 5)]
    net, scope = (3 if version >= 4 else 0), (3 if version >= 6 else 0)  # TCP; abstract sockets and signals
    packed = struct.pack("=QQQ", rights, net, scope)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(444, packed, ctypes.c_size_t(len(packed)), ctypes.c_uint32(0))
    if rules < 0:
        raise Unjailed("Landlock takes no rules")
    wanted = [(path, _READ_FILE | _READ_DIR) for path in spec["readable"]] + [(path, rights & ~1) for path in spec["writable"]]
    for path, allowed in wanted:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):  # noqa: PTH112  # pathlib takes milliseconds that every program would pay
            allowed &= _READ_FILE
        if libc.syscall(445, rules, 1, struct.pack("=Qi", allowed, place), 0):
            raise Unjailed(f"Landlock does not take {path}")
        os.close(place)
    if libc.syscall(446, rules, ctypes.c_uint32(0)):
        raise Unjailed("Landlock does not close")
    os.close(rules)


def seccomp(libc: ctypes.CDLL, spec: dict) -> None:
    """No calls of the system that reach outside: they answer "not permitted", or kill where they are another machine's."""
    if platform.machine() not in _ARCHES:
        raise Unjailed(f"no list of system calls for {platform.machine()}")
    column, arch = _ARCHES[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if column == 0:
        steps += [(_JUMP_MORE, 0, 1, _X32), (_RETURN, 0, 0, _EPERM)]
    for numbers in _DENIED.values():
        if numbers[column] >= 0:
            steps += [(_JUMP_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _EPERM)]
    steps += [(_JUMP_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ENOSYS)]  # its flags lie in memory: C falls back to clone
    steps += [(_JUMP_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, 16), (_JUMP_BITS, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, _EPERM)]
    steps += [(_RETURN, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    if libc.prctl(_SET_SECCOMP, 2, ctypes.byref(program), 0, 0):
        raise Unjailed("this kernel filters no system calls")


if __name__ == "__main__":
    main()
