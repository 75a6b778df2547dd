"""How the first caller gets in: `demo.json` for programs, the printed lines for people."""

import json
from collections.abc import Mapping
from pathlib import Path

_FILE_NAME = "demo.json"
# The pasted lines start at the margin: Python takes indentation at its prompt for an error.
_WELCOME = """
Bursar is ready: {url}

  admin   {admin_url}
          user {admin_user}, password {admin_password}
  logs    {logs}
  access  {demo_file} (the same for programs)

Ask it something:

curl -s {base_url}/chat/completions -H "Authorization: Bearer {api_key}" -H "Content-Type: application/json" \
-d '{{"model": "mock-chat", "messages": [{{"role": "user", "content": "Hello, Bursar"}}]}}'

Or from Python (pip install openai):

from openai import OpenAI
client = OpenAI(base_url="{base_url}", api_key="{api_key}")
answer = client.chat.completions.create(model="mock-chat", messages=[{{"role": "user", "content": "Hello, Bursar"}}])
print(answer.choices[0].message.content)

Next: open the admin to see that call metered, then register a provider of your own (docs/quickstart.md).
Ctrl-C stops everything.
"""


def publish(data_dir: Path, demo: Mapping[str, object]) -> None:
    """Write demo.json, whole or not at all, readable by its owner only. Call it once the platform answers.

    `demo` is what `seed_demo` printed: base_url (ends in /v1), api_key, admin_url, admin_user, admin_password, pid and
    perhaps a note.
    """
    draft = data_dir / f"{_FILE_NAME}.draft"
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(demo, indent=2) + "\n")
    draft.replace(data_dir / _FILE_NAME)


def withdraw(data_dir: Path) -> None:
    """Take demo.json away: it exists only while the platform answers."""
    (data_dir / _FILE_NAME).unlink(missing_ok=True)


def welcome(data_dir: Path, url: str, *, demo: Mapping[str, object]) -> str:
    """The lines shown when the platform is ready. A secret that an operator took out of use is None in `demo`."""
    text = _WELCOME.format(
        url=url,
        logs=data_dir / "logs",
        demo_file=data_dir / _FILE_NAME,
        base_url=demo["base_url"],
        api_key=demo["api_key"] or "YOUR_KEY",
        admin_url=demo["admin_url"],
        admin_user=demo["admin_user"],
        admin_password=demo["admin_password"] or "(known to you)",
    )
    return f"{text}\nNote: {demo['note']}\n" if demo.get("note") else text
