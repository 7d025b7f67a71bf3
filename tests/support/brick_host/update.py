"""What a tool does over the raw REPL to bring a version into the spare slot; the new version stands in /host/new."""

import os

from firmware import slots


def copy(source, path):
    """Copy a file of the host's beside its name on the board, as a line carries it: in pieces."""
    with open(source, "rb") as read, open(path + ".new", "wb") as write:
        piece = read.read(256)
        while piece:
            write.write(piece)
            piece = read.read(256)


def board(name):
    """Replace one of the board's own files, if it is another."""
    try:
        if slots.sha256(name) == slots.sha256("/host/board/" + name):
            return
    except OSError:
        print("#first", name)
    copy("/host/board/" + name, name)
    slots.settle(name, slots.sha256("/host/board/" + name))


update = {}
with open("/host/firmware_update.py") as text:
    exec(text.read(), update)
for name in sorted(os.listdir("/host/board/firmware")):
    board(f"firmware/{name}")
slot = update["prepare"]()
copy("/host/new/manifest", slot + "/manifest")
update["begin"](slot)
for path, digest in update["missing"](slot):
    copy(f"/host/new/{path}", f"{slot}/{path}")
    slots.settle(f"{slot}/{path}", digest)
update["finish"](slot)
board("boot.py")
board("main.py")
print("#updated", slot)
