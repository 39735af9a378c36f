// Sends messages of 4 KB over nodemailer's pool, which keeps no record: node nodemailer.js PORT MESSAGES SESSIONS
// Prints the seconds it took.
const nodemailer = require('nodemailer');

const [port, messages, sessions] = process.argv.slice(2).map(Number);
const transport = nodemailer.createTransport({
  pool: true, host: '127.0.0.1', port, secure: false, ignoreTLS: true, maxConnections: sessions, maxMessages: Infinity,
});
const line = 'Spring is here, and so is a line of text that stands for many others.\r\n';
const text = line.repeat(Math.ceil(3600 / line.length));

(async () => {
  const began = process.hrtime.bigint();
  let next = 0;
  const sender = async () => {
    while (next < messages) {
      const number = next++;
      await transport.sendMail({
        from: 'bench@shop.example', to: `recipient${number}@example.com`, subject: `Hello Recipient ${number}`, text,
      });
    }
  };
  // Twice as many as there are sessions, so that the pool always has the next one at hand.
  await Promise.all(Array.from({ length: sessions * 2 }, sender));
  console.log(Number(process.hrtime.bigint() - began) / 1e9);
  transport.close();
})();
