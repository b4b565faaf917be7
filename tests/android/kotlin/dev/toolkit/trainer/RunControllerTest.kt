package dev.toolkit.trainer

import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.RunController
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import java.io.File
import java.security.Permission

/** Runs from start to end, with pauses and the death of the process in between. */
@RunWith(RobolectricTestRunner::class)
class RunControllerTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary)
    }

    private fun finish(controller: RunController = app.controller) = assertTrue("still active", controller.join(60_000))

    @Test
    fun `a run ends with the adapter that the command line makes`() {
        Fixtures.create(app, "a")
        app.controller.start("a")
        finish()
        val run = app.runs.require("a")
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        assertEquals(8, run.step)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
        val trace = TraceReader(run.trace).read()
        assertEquals((1L..8L).toList(), trace.steps.map { it.step })
        assertEquals("completed", trace.endStatus)
        assertTrue(trace.peakKib > 1000)
        assertTrue(File(run.folder, "adapter_config.json").isFile)
        // tools/android/check_adapter.py loads it into peft.
        val results = File(System.getProperty("toolkit.results")!!, "adapter")
        for (name in listOf("adapter_model.safetensors", "adapter_config.json")) {
            File(run.folder, name).copyTo(File(results, name), overwrite = true)
        }
    }

    @Test
    fun `pausing and resuming gives the same bits`() {
        Fixtures.create(app, "a")
        for (pauseAt in longArrayOf(2, 5)) {
            val pause: () -> Unit = { if ((app.controller.active?.progress?.step ?: 0) >= pauseAt) app.controller.pause() }
            app.controller.addListener(pause)
            app.controller.start("a")
            finish()
            app.controller.removeListener(pause)
            val run = app.runs.require("a")
            assertEquals(RunState.PAUSED, run.state)
            assertTrue("step ${run.step}", run.step in pauseAt until 8)
        }
        app.controller.start("a")
        finish()
        val run = app.runs.require("a")
        assertEquals(RunState.COMPLETED, run.state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
        val events = TraceReader(run.trace).read().events
        assertEquals(2, events.count { it.event == "paused" && it.detail == "by the user" })
    }

    @Test
    fun `a run whose process was killed goes on from its last save`() {
        val original = Fixtures.create(app, "a")
        val left = File(app.folders.runs, "killed")
        // What a kill leaves behind is the files as they are at some moment: copy them at step 5, after the save at 3.
        val snapshot: () -> Unit = {
            if (app.controller.active?.progress?.step == 5L && !left.exists()) original.folder.copyRecursively(left)
        }
        app.controller.addListener(snapshot)
        app.controller.start("a")
        finish()
        assertEquals(RunState.RUNNING, app.runs.require("killed").state)

        val next = RunController(app.runs, app.bundles, app.data, app.policy::read, app.conditions::read)
        assertEquals(listOf("killed"), next.interrupted().map { it.name })
        next.start("killed")
        finish(next)
        val run = app.runs.require("killed")
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
        assertEquals((1L..8L).toList(), TraceReader(run.trace).read().steps.map { it.step })
        assertTrue("\"resumed_from\":3" in run.trace.readText())
    }

    @Test
    fun `stopping early keeps the adapter`() {
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
        app.controller.start("a")
        await("a step") { (app.controller.active?.progress?.step ?: 0) > 0 }
        app.controller.stop()
        finish()
        val run = app.runs.require("a")
        assertEquals(RunState.STOPPED, run.state)
        assertTrue(run.adapter.length() > 0)
    }

    /** As where there is no memory for another thread. */
    @Test
    @Suppress("DEPRECATION", "removal")
    fun `whatever keeps a run from starting leaves room for the next try`() {
        val run = Fixtures.create(app, "a")
        System.setSecurityManager(object : SecurityManager() {
            override fun checkPermission(permission: Permission) = Unit

            override fun checkWrite(file: String) {
                if (file.startsWith(run.folder.path)) throw StackOverflowError("of the test")
            }
        })
        try {
            assertThrows(StackOverflowError::class.java) { app.controller.start("a") }
        } finally {
            System.setSecurityManager(null)
        }
        assertNull(app.controller.active)
        app.controller.start("a")
        finish()
        assertEquals(RunState.COMPLETED, app.runs.require("a").state)
    }

    @Test
    fun `learning longer doubles the steps once, however often it is tapped`() {
        app.runs.save(Fixtures.create(app, "a").copy(state = RunState.COMPLETED, step = 8))
        repeat(3) { assertEquals(16, app.runs.prolong("a").settings.steps) }
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
        for (state in RunState.entries - RunState.COMPLETED) {
            val run = app.runs.save(app.runs.require("a").copy(state = state))
            assertEquals(run, app.runs.prolong("a"))
        }
    }

    @Test
    fun `double taps start one run, a second run is refused`() {
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
        Fixtures.create(app, "b")
        repeat(3) { app.controller.start("a") }
        val error = assertThrows(AppException::class.java) { app.controller.start("b") }
        assertTrue(error.message!!.startsWith("Run “a” is active"))
        repeat(3) { app.controller.pause() }
        finish()
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
        assertNull(app.controller.active)
        app.controller.start("b")
        finish()
        assertEquals(RunState.COMPLETED, app.runs.require("b").state)
    }
}
