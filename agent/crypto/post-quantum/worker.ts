// The thread that slow tasks run in, one at a time, below the priority of the rest of the agent.
import { constants, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { performTask, type SlowAnswer, type SlowTask } from './tasks.ts';

const answerTo = (task: SlowTask): SlowAnswer => {
  try {
    return { bytes: performTask(task) };
  } catch (error) {
    return { fault: error instanceof Error ? error.message : 'not an error' };
  }
};

const port = parentPort;
if (port === null) throw new Error('this file is the body of a worker thread');
// On Linux 0 means the calling thread (setpriority(2)); where it may not be changed, the work goes on all the same.
try {
  setPriority(0, constants.priority.PRIORITY_BELOW_NORMAL);
} catch {
  // see above
}
port.on('message', (task: SlowTask) => {
  const answer = answerTo(task);
  port.postMessage(answer, 'bytes' in answer ? [answer.bytes.buffer] : []);
});
