// Loaded by Node at its start: refuses, and notes in a file, every call to another machine.
import { appendFileSync } from 'node:fs';
import dns from 'node:dns';
import net from 'node:net';

const LOOPBACK = ['127.0.0.1', 'localhost', '::1', undefined];

function refuse(host) {
  if (LOOPBACK.includes(host)) return;
  appendFileSync(process.env.CALLS_OUTSIDE, `${host}\n`);
  throw new Error(`this test lets nobody call ${host}`);
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
