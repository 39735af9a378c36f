"""The driver's own parts, as far as they can be tried without the binary."""

import smtplib
import tomllib
import unittest

import drive
import scenario


class Configuration(unittest.TestCase):
    def test_is_written_as_toml(self):
        for name, config in scenario.CONFIGS.items():
            self.assertEqual(tomllib.loads(drive.toml(config)), {key: value for key, value in config.items()}, name)


class TheMailServer(unittest.TestCase):
    def send(self, server, recipient):
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            client.sendmail("a@example.com", recipient, f"Message-ID: <{recipient}>\r\nSubject: x\r\n\r\nbody\r\n.\r\n")

    def test_takes_defers_refuses_and_is_away(self):
        server = drive.MailServer()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        server.mailboxes["no@example.com"] = "refuse"
        self.send(server, "Ada@example.com")
        with self.assertRaises(smtplib.SMTPRecipientsRefused) as refused:
            self.send(server, "no@example.com")
        self.assertEqual(refused.exception.recipients["no@example.com"][0], 550)
        server.mood = "defer"
        with self.assertRaises(smtplib.SMTPRecipientsRefused) as deferred:
            self.send(server, "ada@example.com")
        self.assertEqual(deferred.exception.recipients["ada@example.com"][0], 451)
        server.mood = "away"
        with self.assertRaises(smtplib.SMTPConnectError):
            self.send(server, "ada@example.com")
        self.assertEqual([(message_id, to) for message_id, to, _ in server.taken], [("<Ada@example.com>", "Ada@example.com")])


if __name__ == "__main__":
    unittest.main()
