package dev.toolkit.trainer.engine

/**
 * A failure that the engine reports: one line, "cause. remedy".
 *
 * @param message in UTF-8, as the bridge hands it over
 * @property status 1 for a failure, 2 for wrong options
 */
class EngineException(message: ByteArray, val status: Int) :
    Exception(String(message, Charsets.UTF_8))
