"""An independent mail server for the tests: aiosmtpd with TLS and a login.

Arguments: `starttls` or `tls`, the certificate, its key. Prints its port, then a line of JSON per message, as Python's
own parser reads it.
"""

import asyncio
import json
import ssl
import sys
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


class Handler:
    async def handle_DATA(self, server, session, envelope):
        message = message_from_bytes(envelope.content, policy=policy.default)
        part = lambda kind: message.get_body((kind,)).get_content()
        print(json.dumps({
            "to": envelope.rcpt_tos, "header_to": str(message["To"]), "subject": str(message["Subject"]),
            "message_id": str(message["Message-ID"]), "date": str(message["Date"]), "type": message.get_content_type(),
            "text": part("plain"), "html": part("html"), "defects": [str(defect) for defect in message.defects],
            "encrypted": server.transport.get_extra_info("ssl_object") is not None, "login": session.auth_data,
        }), flush=True)
        return "250 taken"


def authenticator(server, session, envelope, mechanism, data):
    if isinstance(data, LoginPassword) and (data.login, data.password) == (b"mailer", b"s3cret/@:"):
        return AuthResult(success=True, auth_data="mailer")
    return AuthResult(success=False, handled=False)


async def main(mode, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    starttls = {"tls_context": context, "require_starttls": True} if mode == "starttls" else {}
    login = {"authenticator": authenticator, "auth_required": True, "auth_require_tls": mode == "starttls"}
    serve = lambda: SMTP(Handler(), **starttls, **login)
    from_the_start = context if mode == "tls" else None
    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0, ssl=from_the_start)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
