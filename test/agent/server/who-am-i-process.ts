// A process that asks who it is, to be run as another user.
import { credentials } from '@grpc/grpc-js';
import { StatusServiceClient } from '../../../proto/gen/mortise/agent/v1/status.ts';

const client = new StatusServiceClient(`unix:${process.argv[2]}`, credentials.createInsecure());
client.whoAmI({}, (error, answer) => {
  console.log(JSON.stringify(error ? { error: error.message } : { uid: answer.uid, gid: answer.gid, pid: answer.pid }));
  client.close();
});
