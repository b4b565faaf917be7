package dev.toolkit.trainer.engine

/**
 * A failure that the engine reports: one line, "cause. remedy".
 *
 * @param message in UTF-8, as the bridge hands it over
 * @property status 1 for a failure, 2 for wrong options, [KILLED]
 */
class EngineException(message: ByteArray, val status: Int) :
    Exception(String(message, Charsets.UTF_8)) {
    companion object {
        /** Of an engine whose process was ended from outside by signal 9, as Android does where memory is short. */
        const val KILLED = 128 + 9
    }
}
