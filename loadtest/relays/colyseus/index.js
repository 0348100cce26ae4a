#!/usr/bin/env node
// The same crowd as Colyseus' own documentation would have it: a map of players, whose changes go out 20 times a
// second. It listens on 127.0.0.1, on PORT (default 3004); the room is "crowd".
import { Room, defineRoom, defineServer } from "@colyseus/core";
import { Encoder, schema, t } from "@colyseus/schema";

// Enough for the state of several thousand players: the library asks for it where its default is too small.
Encoder.BUFFER_SIZE = 256 * 1024;

const Player = schema({
  x: t.float32(), y: t.float32(), z: t.float32(), // metres
  rx: t.float32(), ry: t.float32(), rz: t.float32(), // radians
}, "Player");

const State = schema({ players: t.map(Player) }, "State");

class Crowd extends Room {
  maxClients = 10_000;
  patchRate = 50; // ms
  state = new State();

  messages = {
    pose(client, { x, y, z, rx, ry, rz }) {
      const player = this.state.players.get(client.sessionId);
      if (player) Object.assign(player, { x, y, z, rx, ry, rz });
    },
  };

  onJoin(client) {
    this.state.players.set(client.sessionId, new Player({ x: 0, y: 1.6, z: 0, rx: 0, ry: 0, rz: 0 }));
  }

  onLeave(client) {
    this.state.players.delete(client.sessionId);
  }
}

const port = Number(process.env.PORT ?? 3004);
const server = defineServer({ rooms: { crowd: defineRoom(Crowd) }, greet: false });
await server.listen(port, "127.0.0.1");
console.log(`Colyseus on http://127.0.0.1:${port}`);
