// A request as a program would make it. No key is in any of them: programs read it from their environment.
const playgroundCode = {
  curl(base, path, body) {
    const text = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
    return `curl ${base}${path} \\\n  -H "Authorization: Bearer $BURSAR_KEY" \\\n  -H 'Content-Type: application/json' \\\n  -d '${text}'`;
  },
  python(base, path, body) {
    const text = JSON.stringify(JSON.stringify(body));
    const printed = body.stream
      ? 'with httpx.stream("POST", url, headers=headers, json=body, timeout=120) as answer:\n    for line in answer.iter_lines():\n        print(line)'
      : path.endsWith("/speech")
        ? 'answer = httpx.post(url, headers=headers, json=body, timeout=120)\nopen("speech.mp3", "wb").write(answer.content)'
        : "answer = httpx.post(url, headers=headers, json=body, timeout=120)\nprint(answer.json())";
    return `import json\nimport os\n\nimport httpx\n\nurl = "${base}${path}"\nheaders = {"Authorization": f"Bearer {os.environ['BURSAR_KEY']}"}\nbody = json.loads(${text})\n${printed}`;
  },
  javascript(base, path, body) {
    const used = body.stream
      ? "for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) console.log(piece);"
      : path.endsWith("/speech") ? "console.log((await answer.arrayBuffer()).byteLength);" : "console.log(await answer.json());";
    return `const answer = await fetch("${base}${path}", {\n  method: "POST",\n  headers: { Authorization: \`Bearer \${process.env.BURSAR_KEY}\`, "Content-Type": "application/json" },\n  body: JSON.stringify(${JSON.stringify(body, null, 2)}),\n});\n${used}`;
  },
};
