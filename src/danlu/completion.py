"""Shell completion: stages, settings and the names on shelves, from the same tables as help."""

from danlu.core.errors import UnknownName
from danlu.stages import STAGES

_SCRIPTS = {
    "bash": """_danlu() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(danlu --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _danlu danlu""",
    "zsh": """#compdef danlu
_danlu() {
  local -a found
  found=(${(f)"$(danlu --complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  compadd -a found || _files
}
compdef _danlu danlu""",
    "fish": "complete -c danlu -a '(danlu --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'",
}


def script(shell: str) -> str:
    """What a shell must source: `source <(danlu --completion bash)`."""
    if shell not in _SCRIPTS:
        raise UnknownName("shell", shell, _SCRIPTS)
    return _SCRIPTS[shell]


def candidates(words: list[str]) -> list[str]:
    """Words that may stand at the end of a command line that begins with `words`; the last may be half typed."""
    *before, last = words or [""]
    if not before:
        return [name for name in STAGES.names() if name.startswith(last)]
    if before[0] not in STAGES:
        return []
    from danlu.core.help import rows
    from danlu.stages import settings_of

    known = {f"--{row.name}": row for row in rows(settings_of(before[0]))}  # type: ignore[arg-type]
    if f"{before[-1]}.name" in known:  # `--to hf` is short for `--to.name hf`
        before[-1] += ".name"
    if before[-1] in known and (" | " in known[before[-1]].type or before[-1].endswith(".name")):
        return [name for name in known[before[-1]].type.split(" | ") if name.startswith(last)]
    return [flag for flag in (*known, "--recipe", "--dry-run", "--quiet", "--help") if flag.startswith(last)]
