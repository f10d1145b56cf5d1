// The browser's way: fetch with FormData and slices of a file-backed Blob (Node 20 or newer).
//   node browser.mjs BASE_URL FILE CHUNK_BYTES      prints {"seconds", "cpu"} of the work alone
import { openAsBlob } from "node:fs";

const [base, path, chunkSize] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const file = await openAsBlob(path);
const total = Math.ceil(file.size / chunkSize);

async function send(index, uploadId) {
  const form = new FormData();
  form.append("chunk_index", String(index));
  form.append("total_chunks", String(total));
  form.append("filename", "scan.zip");
  form.append("upload_type", "zip_with_qr");
  form.append("is_final_chunk", index === total - 1 ? "true" : "false");
  if (uploadId) form.append("upload_id", uploadId);
  form.append("chunk", file.slice(index * chunkSize, Math.min(file.size, (index + 1) * chunkSize)), `scan.zip.part${index}`);
  const answer = await fetch(`${base}/batches/upload-chunk`, {
    method: "POST",
    headers: { Authorization: "Bearer token" },
    body: form,
  });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  return (await answer.json()).upload_id;
}

const [began, used] = [performance.now(), process.cpuUsage()];
const uploadId = await send(0);
let next = 1;
async function lane() {
  while (next < total - 1) await send(next++, uploadId);
}
await Promise.all([lane(), lane(), lane(), lane()]);
await send(total - 1, uploadId);
const cpu = process.cpuUsage(used);
console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000, cpu: (cpu.user + cpu.system) / 1e6 }));
process.exit(0);
