"""The message on the standard input, as Python's parser and PyJWT read it: a line of JSON.

Arguments: the key and the issuer of the tokens. A token that is not signed with this key, or by this issuer, ends it
with an error. The times of a token are printed and not compared with the clock: the tests choose the time of a run.
"""

import json
import re
import sys
from email import message_from_bytes, policy

import jwt

KEY, ISSUER = sys.argv[1:]
WANTED = {"require": ["iat", "exp", "iss"], "verify_exp": False, "verify_iat": False}

message = message_from_bytes(sys.stdin.buffer.read(), policy=policy.default)
text, html = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
links = re.findall(r"https?://\S+", text)
tokens = [link.split("?token=")[1] for link in links if "?token=" in link]
print(json.dumps({
    "text": text, "html": html, "links": links,
    "headers": {name.lower(): str(value) for name, value in message.items()},
    "heads": [jwt.get_unverified_header(token) for token in tokens],
    "claims": [jwt.decode(token, KEY, algorithms=["HS256"], issuer=ISSUER, options=WANTED) for token in tokens],
}))
