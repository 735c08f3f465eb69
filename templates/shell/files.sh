now() {
  date -u +%Y-%m-%dT%H:%M:%SZ
}

# make_shared FOLDER: make the folder for all who may write its parent. It gets the mode of the parent, with the sticky
# bit.
make_shared() {
  [ -d "$1" ] || { mkdir -p "$1" && chmod --reference="${1%/*}" "$1"; } || true
}

# stamp FILE: print a text that changes when FILE is written again. Print nothing if there is no file.
stamp() {
  stat -c '%i %y %s' "$1" 2>/dev/null || true
}

# write_durably FILE: write standard input to FILE. A reader sees the old text or the new text, never half of one.
write_durably() {
  cat >"$1.$$" && sync "$1.$$" && mv -f "$1.$$" "$1"
}
