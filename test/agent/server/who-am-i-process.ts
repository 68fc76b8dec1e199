// A process that asks who it is as another user. It becomes that user after its modules are loaded, since the checkout
// may lie where only root can read.
import { credentials } from '@grpc/grpc-js';
import { StatusServiceClient } from '../../../proto/gen/mortise/agent/v1/status.ts';

const [path, uid, gid] = process.argv.slice(2);
process.setgroups?.([]);
process.setgid?.(Number(gid));
process.setuid?.(Number(uid));

const client = new StatusServiceClient(`unix:${path}`, credentials.createInsecure());
client.whoAmI({}, (error, answer) => {
  console.log(JSON.stringify(error ? { error: error.message } : { uid: answer.uid, gid: answer.gid, pid: answer.pid }));
  client.close();
});
