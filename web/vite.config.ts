import { defineConfig } from 'vite';

// `npm run dev` serves the page itself and passes everything else on to a server that runs beside it.
const server = process.env.COPRESENCE_URL ?? 'http://127.0.0.1:3001';

export default defineConfig({
  // Relative addresses, so that the page also works behind a path prefix.
  base: './',
  build: { target: 'es2022', assetsInlineLimit: 0 },
  server: {
    host: '127.0.0.1',
    proxy: {
      '/api': server,
      '/socket.io': { target: server, ws: true },
    },
  },
});
