#!/usr/bin/env node
// The relay that everybody writes first: every update goes straight out to everybody else in the room.
// It listens on 127.0.0.1, on PORT (default 3003), and needs no logins.
import { createServer } from "node:http";
import { Server } from "socket.io";

const server = createServer();
const io = new Server(server);
const rooms = new Map(); // room id -> Map of socket id -> user

io.on("connection", (socket) => {
  let room = null;

  socket.on("join-room", ({ roomId }) => {
    room = roomId;
    const user = { id: socket.id, socketId: socket.id, position: { x: 0, y: 1.6, z: 0 }, rotation: { x: 0, y: 0, z: 0 } };
    if (!rooms.has(room)) rooms.set(room, new Map());
    rooms.get(room).set(socket.id, user);
    socket.join(room);
    socket.to(room).emit("user-joined", user);
    socket.emit("room-users", [...rooms.get(room).values()]);
  });

  socket.on("update-position", ({ position, rotation }) => {
    const user = rooms.get(room)?.get(socket.id);
    if (!user) return;
    Object.assign(user, { position, rotation });
    socket.to(room).emit("user-moved", { id: socket.id, socketId: socket.id, position, rotation });
  });

  socket.on("disconnect", () => {
    const members = rooms.get(room);
    if (!members?.delete(socket.id)) return;
    if (members.size === 0) rooms.delete(room);
    socket.to(room).emit("user-left", socket.id);
  });
});

const port = Number(process.env.PORT ?? 3003);
server.listen(port, "127.0.0.1", () => console.log(`naive relay on http://127.0.0.1:${port}`));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
