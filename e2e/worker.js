/**
 * A worker as a process of its own, with a fault that it is started with. It says on which port it listens in its
 * first line, and every task that it has accepted in a line of its own after that.
 */
import { createServer } from 'node:http';

const [fault = 'none'] = process.argv.slice(2);
const tasks = new Map();

const json = (response, status, body) => {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
};

async function read(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text === '' ? undefined : JSON.parse(text);
}

/** What a task comes to. */
function work({ type, payload }) {
  if (type === 'fail') return { status: 'failed', error: 'no points in /srv/worker/hull.js' };
  if (type === 'large') return { status: 'completed', result: 'x'.repeat(payload) };
  if (type === 'never') return { status: 'running' };
  return { status: 'completed', result: { echo: payload, worker: fault } };
}

const faults = {
  hang: () => {},
  'answer 500': (response) => json(response, 500, { error: 'at Object.<anonymous> (/srv/worker/index.js:1:1)' }),
  garbage: (response) => json(response, 200, '{"id": "a", <html>'),
  '100 MB': (response) => {
    const chunk = Buffer.alloc(1_000_000, ' ');
    let left = 100;
    const more = () => {
      while (left-- > 0) if (!response.write(chunk)) return void response.once('drain', more);
      response.end();
    };
    response.writeHead(200);
    more();
  },
  'slow drip': (response) => {
    response.writeHead(200);
    const drip = setInterval(() => response.write(' '), 50);
    response.on('close', () => clearInterval(drip));
  },
  'hang up': (response) => response.destroy(),
  'die after accepting': (response) => {
    json(response, 202, { id: 'soon' });
    response.on('finish', () => process.kill(process.pid, 'SIGKILL'));
  },
  older: async (response, path, body) => {
    if (path !== '/execute') return json(response, 404, 'Cannot POST /tasks');
    const { status, result, error } = work({ type: body.task, payload: body.data });
    return status === 'failed' ? json(response, 422, { error }) : json(response, 200, { result });
  },
};

const server = createServer(async (request, response) => {
  const path = request.url;
  const body = await read(request).catch(() => undefined);
  if (path === '/health') return json(response, 200, { status: 'ok' });
  if (request.method === 'POST') process.stdout.write(`${JSON.stringify(body.payload ?? body.data ?? null)}\n`);
  if (faults[fault]) return faults[fault](response, path, body);
  if (request.method === 'POST' && path === '/tasks') {
    const id = `task/${tasks.size}`;
    tasks.set(encodeURIComponent(id), work(body));
    return json(response, 202, { id, status: 'pending' });
  }
  const task = tasks.get(path.replace('/tasks/', ''));
  return task ? json(response, 200, task) : json(response, 404, { error: 'no such task' });
});

server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`));
