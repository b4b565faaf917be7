package dev.toolkit.trainer

import android.app.AlertDialog
import android.os.Looper
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.Spinner
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.shadows.ShadowDialog
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController

/** What a person does on the screens of runs, hasty fingers and a turned phone included. */
@RunWith(RobolectricTestRunner::class)
class ScreenFlowTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun deliver(app: TrainerApp, service: ServiceController<TrainingService>) {
        generateSequence { shadowOf(app).nextStartedService }.forEach { service.get().onStartCommand(it, 0, 1) }
        Fixtures.settle(app)
    }

    @Test
    fun `starting, rotating and stopping from the screen`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
        val screen = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
        await("the page") { screen.get().requireViewById<Button>(R.id.primary).text == "Start" }
        repeat(2) { screen.get().requireViewById<Button>(R.id.primary).performClick() }
        val service = Robolectric.buildService(TrainingService::class.java).create()
        deliver(app, service)
        await("a step") { (app.controller.active?.progress?.step ?: 0) > 1 }
        val step = app.controller.active!!.progress!!.step
        Fixtures.turn(landscape = true)
        screen.recreate()
        await("the page again") { screen.get().requireViewById<Button>(R.id.primary).text == "Pause" }
        assertTrue("the run went on meanwhile", app.controller.active!!.progress!!.step >= step)
        await("the curve") { screen.get().requireViewById<View>(R.id.loss).contentDescription.startsWith("Loss curve") }
        Fixtures.turn(landscape = false)
        screen.recreate()
        repeat(2) { screen.get().requireViewById<Button>(R.id.stop).performClick() }
        deliver(app, service)
        await("the end") { app.controller.active == null }
        await("the page at the end") { text(screen.get(), "Stopped early") }
        assertEquals(RunState.STOPPED, app.runs.require("a").state)
        screen.close()
        service.destroy()
    }

    @Test
    fun `a new run is made once however often it is tapped`() {
        val app = Fixtures.deploy(temporary)
        val screen = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup()
        await("the form") { text(screen.get(), "rows") }
        repeat(3) { screen.get().requireViewById<Button>(R.id.start).performClick() }
        await("the run") { screen.get().isFinishing }
        assertEquals(listOf("run"), app.runs.list().map { it.name })
        assertEquals(TrainingService.START, shadowOf(app).nextStartedService.action)
        assertNull(shadowOf(app).nextStartedService)
        screen.close()
    }

    @Test
    fun `another optimizer brings its learning rate, unless one was written`() {
        val app = Fixtures.deploy(temporary)
        val screen = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup()
        await("the form") { text(screen.get(), "rows") }
        val rate = screen.get().requireViewById<EditText>(R.id.rate)
        val optimizer = screen.get().requireViewById<Spinner>(R.id.optimizer)
        fun chosen(name: String): String {
            optimizer.setSelection(RunSettings.OPTIMIZERS.indexOf(name))
            shadowOf(Looper.getMainLooper()).idle()
            return rate.text.toString()
        }
        assertEquals(listOf("2e-2", "2e-4", "1e-1"), listOf(chosen("adalomo"), chosen("mlorc"), chosen("sgd")))
        rate.setText("3e-3")
        assertEquals("3e-3", chosen("adamw"))
        screen.close()
    }

    @Test
    fun `what was chosen outlives a turn of the phone`() {
        val app = Fixtures.deploy(temporary)
        TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there, how are you?"))
        val controller = Robolectric.buildActivity(NewRunActivity::class.java).setup()
        await("the form") { text(controller.get(), "tiny") }
        controller.get().requireViewById<Spinner>(R.id.bundle).setSelection(1)
        await("the other model's data") { controller.get().requireViewById<Spinner>(R.id.data).count == 2 }
        controller.get().requireViewById<Spinner>(R.id.data).setSelection(1)
        Fixtures.idle()
        val chosen = controller.get().requireViewById<Spinner>(R.id.data).selectedItem
        Fixtures.turn(landscape = true)
        controller.recreate()
        await("the form again") { controller.get().requireViewById<Spinner>(R.id.bundle).selectedItem == "tiny-words" }
        await("the data") { controller.get().requireViewById<Spinner>(R.id.data).selectedItem == chosen }
        controller.close()
    }

    @Test
    fun `one tap on a run's card starts, pauses, resumes and stops it`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
        val screen = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        val service = Robolectric.buildService(TrainingService::class.java).create()
        val tap = { button: Int, words: String ->
            await(words) { screen.window.decorView.findViewById<View>(button)?.let { it.isShown && it.contentDescription == words } == true }
            screen.requireViewById<View>(button).performClick()
            deliver(app, service)
        }
        tap(R.id.action, "Start run a")
        await("a step") { (app.controller.active?.progress?.step ?: 0) > 0 }
        tap(R.id.action, "Pause run a")
        await("the pause") { app.controller.active == null && app.runs.require("a").state == RunState.PAUSED }
        tap(R.id.action, "Resume run a")
        await("more steps") { app.controller.active?.doing == Doing.TRAINING }
        tap(R.id.stop, "Stop run a")
        await("the end") { app.controller.active == null && app.runs.require("a").state == RunState.STOPPED }
        await("the card") { !screen.requireViewById<View>(R.id.stop).isShown }
        service.destroy()
    }

    @Test
    fun `a page that is open shows the run of another notification`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a")
        Fixtures.create(app, "b")
        val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
        page.newIntent(RunActivity.intent(app, "b"))
        await("the other run") { page.get().requireViewById<TextView>(R.id.run_name).text.toString() == "b" }
        Fixtures.turn(landscape = true)
        page.recreate()
        assertEquals("b", page.get().requireViewById<TextView>(R.id.run_name).text)
        await("the page") { text(page.get(), "Not started") }
        page.close()
    }

    @Test
    fun `the licences of what is in the app can be read in it`() {
        Fixtures.deploy(temporary)
        val screen = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        await("the button") { screen.requireViewById<View>(R.id.licences).isShown }
        screen.requireViewById<View>(R.id.licences).performClick()
        val names = (ShadowDialog.getLatestDialog() as AlertDialog).listView
        assertEquals(7, names.count)
        for ((name, words) in listOf("ExecuTorch" to "Meta Platforms", "GNU C library" to "GNU Lesser General Public", "Apache 2.0 (Kotlin)" to "Apache License")) {
            names.performItemClick(null, (0 until names.count).first { names.getItemAtPosition(it) == name }, 0)
            await("the text of $name") {
                val shown = ShadowDialog.getLatestDialog() as AlertDialog
                shown.findViewById<TextView>(android.R.id.message)?.text?.contains(words) == true
            }
        }
    }
}
