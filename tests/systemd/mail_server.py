"""Takes mail on loopback and prints each message: enough SMTP (RFC 5321) for a client that means it.

python3 mail_server.py PORT

Run in the container, with nothing but the standard library.
"""

import socketserver
import sys


class Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.say("220 mail.example.org")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say("354 go on")
                self.take()
            self.say("221 bye" if verb == b"QUIT" else "250 ok")

    def say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())

    def take(self) -> None:
        message = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            message.append(line.decode("utf-8", "replace").rstrip("\r\n"))
        print("\n".join(["MAIL", *message]), flush=True)


with socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Conversation) as server:
    server.serve_forever()
