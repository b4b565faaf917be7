package dev.toolkit.trainer.engine

/** State of a run after its last step; memory in KiB, loss as mean over the labelled tokens. */
data class Progress(
    val step: Long,
    val steps: Long,
    val tokens: Long,
    val loss: Double,
    val learningRate: Double,
    val gradientNorm: Double,
    val seconds: Double,
    val peakKib: Long,
    val running: Boolean,
    val stopped: Boolean,
) {
    override fun toString() = "step $step"
}

/** One open run of the engine. Every function may be called from any thread, also after [close]. */
interface Trainer : AutoCloseable {
    /**
     * Runs one step; false once the run is over and saved. While a save finds the storage full the step lasts, and tells [full] so on
     * this thread: true, and false once there is room again.
     *
     * @throws EngineException the run failed or is closed
     */
    fun step(full: (Boolean) -> Unit = {}): Boolean

    /** Ends the run; [step] drops what has changed nothing yet, else goes to its end, then saves and returns false. */
    fun requestStop()

    /** Adds an event to the trace. */
    fun note(event: String, detail: String)

    fun progress(): Progress

    /** Ends it where it is; what was not saved is lost. */
    override fun close()
}
