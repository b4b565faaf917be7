package dev.toolkit.trainer.engine

import org.json.JSONObject

/** A finished reply; [reason] is the engine's: stop, length, context or cancel. */
class Reply(
    val reason: String, val promptTokens: Long, val tokens: Long, val promptSeconds: Double, val seconds: Double, val peakKib: Long,
) {
    /** Of those behind the first, whose time is the prompt's; null where there is none. */
    val tokensPerSecond: Double? get() = if (tokens > 1 && seconds > 0) (tokens - 1) / seconds else null

    companion object {
        internal fun of(json: JSONObject) = Reply(
            json.getString("reason"), json.getLong("prompt_tokens"), json.getLong("tokens"), json.getDouble("prompt_seconds"),
            json.getDouble("seconds"), json.getLong("peak_kib"),
        )
    }
}

/** Told of a reply while it comes, on the thread that asked. */
fun interface TokenListener {
    /** Takes a token, or -1 once a part of the prompt was computed; false ends the reply. */
    fun told(token: Int): Boolean
}

/** An open model that replies. One thread uses it; after a failure it is only to be closed. */
interface Generator : AutoCloseable {
    /** Options of the replies that follow, names of `trainer generate --help` without dashes. */
    fun set(options: Map<String, String>)

    /**
     * Replies to the tokens of a prompt.
     *
     * @throws EngineException an option is wrong, the prompt does not fit, or the engine has ended
     */
    fun reply(prompt: IntArray, listener: TokenListener): Reply
}
