// Refuses every call to another machine, and records it in a file; Node loads it at start.
import { appendFileSync } from 'node:fs';
import dns from 'node:dns';
import net from 'node:net';

const LOOPBACK = ['127.0.0.1', 'localhost', '::1', undefined];

function refuse(host) {
  if (LOOPBACK.includes(host)) return;
  appendFileSync(process.env.CALLS_OUTSIDE, `${host}\n`);
  throw new Error(`this test allows no call to ${host}`);
}

const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...options) {
  const [first] = options.flat();
  if (typeof first === 'object' && !first.path) refuse(first.host);
  return connect.apply(this, options);
};

const { lookup } = dns;
dns.lookup = (host, ...rest) => {
  refuse(host);
  return lookup(host, ...rest);
};
