package dev.toolkit.trainer.engine

import java.io.BufferedReader
import java.io.IOException
import java.util.concurrent.TimeUnit
import org.json.JSONException
import org.json.JSONObject

/** A model in a child process: requests are lines, answers lines of JSON, and among them what the engine complains of. */
internal class ChildGenerator : Generator {
    private lateinit var process: Process
    private lateinit var answers: BufferedReader
    private var complaint = ""

    /** Waits until the model is open. */
    fun begin(started: Process) {
        process = started
        answers = started.inputStream.bufferedReader()
        next()
    }

    override fun set(options: Map<String, String>) = options.forEach { say("set ${it.key} ${it.value}") }

    override fun reply(prompt: IntArray, listener: TokenListener): Reply {
        say("reply " + prompt.joinToString(" "))
        var more = true
        while (true) {
            val answer = next()
            val type = answer.getString("type")
            if (type == "reply") return Reply.of(answer)
            // What was under way when it was told to end still comes.
            if (more && !listener.told(if (type == "token") answer.getInt("token") else -1)) {
                more = false
                say("cancel")
            }
        }
    }

    private fun next(): JSONObject {
        while (true) {
            val line = try {
                answers.readLine()
            } catch (_: IOException) {
                null
            } ?: throw ended()
            if (!line.startsWith("{")) {
                if (line.startsWith(ERROR)) complaint = line.removePrefix(ERROR)
                continue
            }
            val answer = try {
                JSONObject(line)
            } catch (_: JSONException) {
                // It may live on, and would be waited for.
                process.destroyForcibly()
                throw ended()
            }
            if (answer.optString("type") == "failed") throw ChildHost.failure(answer.getString("message"), answer.getInt("status"))
            return answer
        }
    }

    private fun ended(): EngineException {
        val code = process.waitFor()
        return if (complaint.isEmpty()) ChildHost.ended(code) else ChildHost.failure(complaint, code)
    }

    /** What is said to one that has ended is lost; its next answer tells. */
    private fun say(line: String) {
        try {
            process.outputStream.write("$line\n".toByteArray())
            process.outputStream.flush()
        } catch (_: IOException) {
            return
        }
    }

    override fun close() {
        try {
            if (!::process.isInitialized) return
            say("cancel")
            runCatching { process.outputStream.close() }
            if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) process.destroyForcibly().waitFor()
        } finally {
            ChildHost.release(this)
        }
    }

    private companion object {
        const val ERROR = "error: "
        const val PATIENCE_SECONDS = 5L
    }
}
