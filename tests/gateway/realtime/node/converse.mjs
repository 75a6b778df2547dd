// One spoken turn and an ordered end with each of the SDK's two classes; says as JSON what came.
import OpenAI from 'openai';
import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';

const [kind, baseURL, apiKey, model] = process.argv.slice(2);
const classes = { websocket: OpenAIRealtimeWebSocket, ws: OpenAIRealtimeWS };
const client = new OpenAI({ baseURL, apiKey });
const connection = new classes[kind]({ model }, client);
const told = { kinds: [], usage: null, closed: null, code: null, subprotocol: '', errors: [] };

connection.on('event', (event) => told.kinds.push(event.type));
connection.on('error', (error) => told.errors.push(error.error?.code ?? error.message));
connection.on('session.created', () => {
  connection.send({ type: 'session.update', session: { type: 'realtime', instructions: 'Be brief.' } });
  connection.send({ type: 'input_audio_buffer.append', audio: Buffer.alloc(48000, 1).toString('base64') });
  connection.send({ type: 'input_audio_buffer.commit' });
  connection.send({ type: 'response.create' });
});
connection.on('response.done', (event) => {
  told.usage = event.response.usage;
  connection.send({ type: 'session.close' });
});
connection.on('event', (event) => {
  if (event.type === 'session.closed') told.closed = event.usage;
});
connection.socket.addEventListener('close', (event) => {
  told.code = event.code;
  told.subprotocol = connection.socket.protocol;
  process.stdout.write(JSON.stringify(told));
});
