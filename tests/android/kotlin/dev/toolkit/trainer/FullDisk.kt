package dev.toolkit.trainer

import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.store.RunState
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.rules.TemporaryFolder
import java.io.File
import java.io.IOException
import java.nio.file.Files

/** A small file system under the app's runs, which a run fills. */
class FullDisk(private val temporary: TemporaryFolder) : AutoCloseable {
    val folder = File(temporary.root, "disk").also { it.mkdirs() }

    init {
        val mounted = run("mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", folder.path)
        if (System.getenv("CI") == "true") assertTrue("CI must be able to mount a small disk", mounted)
        assumeTrue("needs the right to mount", mounted)
    }

    /** Trains until there is no room, has [look] look, makes room, and waits for the same bits as if there always had been. */
    fun trainThrough(app: TrainerApp, look: () -> Unit) {
        under(app)
        Fixtures.create(app, "a")
        fill()
        app.controller.start("a")
        await("the full disk") { app.controller.active?.doing == Doing.FULL }
        assertTrue(app.controller.active!!.since > 0)
        look()
        assertTrue("it is still there", app.controller.active?.doing == Doing.FULL)
        makeRoom()
        await("that it goes on") { app.controller.active?.doing != Doing.FULL }
        assertTrue(app.controller.join(30_000))
        val run = app.runs.require("a")
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
    }

    fun under(app: TrainerApp) {
        app.folders.runs.parentFile!!.mkdirs()
        Files.createSymbolicLink(app.folders.runs.toPath(), folder.toPath())
    }

    fun fill() = File(folder, "filler").writeBytes(ByteArray((folder.usableSpace - ROOM).toInt()))

    /** Takes what there is, also what an engine that tries again gives back meanwhile. */
    fun fillUp() {
        val end = System.nanoTime() + 4_000_000_000L
        while (System.nanoTime() < end) {
            try {
                File(folder, "filler").appendBytes(ByteArray(4096))
            } catch (_: IOException) {
                Thread.sleep(1)
            }
        }
    }

    fun makeRoom() = run("mount", "-o", "remount,size=64m", folder.path)

    override fun close() {
        run("umount", folder.path)
    }

    private fun run(vararg words: String) = ProcessBuilder(*words).start().waitFor() == 0

    private companion object {
        /** For the run's trace, not for what it saves. */
        const val ROOM = 40_000L
    }
}
