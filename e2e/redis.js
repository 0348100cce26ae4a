/** A real redis-server on a free port, and what can happen to one. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort, until, within } from './harness.js';

/** Every change is written to its file, at the latest a second later. */
const OPTIONS = ['--bind', '127.0.0.1', '--save', '', '--appendonly', 'yes', '--maxmemory-policy', 'noeviction'];

export class Redis {
  constructor(options = []) {
    this.options = options;
    this.dir = mkdtempSync(path.join(tmpdir(), 'copresence-redis-'));
  }

  /** Comes up, on the same port and with the same data as before. */
  async start() {
    this.port ??= await freePort();
    this.url = `redis://127.0.0.1:${this.port}`;
    const args = [...OPTIONS, '--port', String(this.port), '--dir', this.dir, ...this.options];
    this.child = spawn(process.env.REDIS_BIN ?? 'redis-server', args, { stdio: 'ignore' });
    this.exited = once(this.child, 'exit');
    await until(async () => {
      if (this.child.exitCode !== null) throw new Error('redis-server ended early');
      return (await this.command('PING').catch(() => '')) === '+PONG';
    }, 'redis-server to answer');
    return this;
  }

  /** Ends it as a power cut does. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(this.exited, 'redis-server to end');
  }

  /** It is there, takes connections, and answers nothing. */
  pause() {
    this.child.kill('SIGSTOP');
  }

  goOn() {
    this.child.kill('SIGCONT');
  }

  /** What it has written; for when it does not run. */
  forgetAll() {
    rmSync(path.join(this.dir, 'appendonlydir'), { recursive: true, force: true });
  }

  /** From now on it takes hardly more than it has. */
  async fill() {
    const used = /used_memory:(\d+)/.exec(await this.command('INFO memory'))[1];
    await this.command(`CONFIG SET maxmemory ${Number(used) + 65_536}`);
  }

  async raiseLimit() {
    await this.command('CONFIG SET maxmemory 0');
  }

  /** Has a command carried out; answers the reply as it is on the wire, without its last line's end. */
  async command(line) {
    const socket = connect(this.port, '127.0.0.1');
    try {
      let reply = '';
      const whole = new Promise((resolve, reject) => {
        socket.on('error', reject);
        socket.on('close', () => reject(new Error(`redis-server left ${line} without an answer`)));
        socket.on('data', (chunk) => {
          reply += chunk;
          const length = /^\$(\d+)\r\n/.exec(reply);
          const end = length ? length[0].length + Number(length[1]) + 2 : reply.indexOf('\r\n') + 2;
          if (end > 1 && reply.length >= end) resolve(reply.trimEnd());
        });
      });
      socket.write(`${line}\r\n`);
      const answer = await within(whole, `redis-server's answer to ${line}`);
      if (answer.startsWith('-')) throw new Error(`redis-server answers ${answer}`);
      return answer;
    } finally {
      socket.destroy();
    }
  }

  async clean() {
    if (this.child && this.child.exitCode === null && this.child.signalCode === null) await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
